/** A model call as a conversation: what is new in it, and what was said before. */
import type { JSX } from "preact";
import type { Span } from "../api";
import { asCurl, asJson, inputOf, outputOf, type Said, told } from "../conversation";
import { count, visible } from "../format";
import { Copyable } from "./bits";
import { Marked } from "./marked";

/** What a program said to a program keeps its columns; what people read is set as such. */
const isData = (text: string): boolean => /^\s*[[{<]|^```|\n {2,}\S/.test(text);

export function Conversation({ span, spans, words }: { span: Span; spans: readonly Span[]; words: readonly string[] }): JSX.Element {
  const input = inputOf(span);
  const output = outputOf(span);
  const before = told(span, spans);
  // Without an earlier call: the beginning of a long one.
  const old = before || (input.length > 4 ? input.length - 3 : 0);
  // Where the words are only in what is folded, it is open.
  const has = (m: Said): boolean => words.some((word) => m.text.toLowerCase().includes(word));
  const hidden = words.length > 0 && input.slice(0, old).some(has) && ![...input.slice(old), ...output].some(has);
  return (
    <div class="talk">
      <p class="acts">
        <Copyable text={JSON.stringify({ ...asJson(span), answer: output.map((m) => m.text).join("\n") }, null, 2)} shown="Copy as JSON" />
        <Copyable text={asCurl(span)} shown="Copy as curl" />
      </p>
      {old > 0 && (
        <details open={hidden}>
          <summary>
            {old} earlier {old === 1 ? "message" : "messages"}
            {before ? ", said in the call before" : ""}
          </summary>
          {input.slice(0, old).map((m, i) => (
            <Message key={i} said={m} words={words} />
          ))}
        </details>
      )}
      {input.slice(old).map((m, i) => (
        <Message key={i} said={m} words={words} />
      ))}
      {output.map((m, i) => (
        <Message key={i} said={m} words={words} answer tokens={i === output.length - 1 ? span.outputTokens : undefined} />
      ))}
    </div>
  );
}

function Message({ said, words, answer, tokens }: { said: Said; words: readonly string[]; answer?: boolean; tokens?: number | undefined }): JSX.Element {
  return (
    <div class={`said ${said.role === "tool" ? "tool-said" : said.role}`}>
      <div class="who">
        {said.role || "message"}
        {answer ? " answers" : ""}
        {tokens ? <span class="soft"> · {count(tokens)} tokens</span> : null}
      </div>
      {said.thinking && (
        <details>
          <summary>thinking, {count(said.thinking.length)} characters</summary>
          <pre class="soft">{visible(said.thinking)}</pre>
        </details>
      )}
      {said.text && (isData(said.text) ? <pre><Marked text={said.text} words={words} /></pre> : <div class="text"><Marked text={said.text} words={words} /></div>)}
      {said.files.map((file, i) => (
        <p key={i}>
          {file.link ? (
            <a href={file.link} target="_blank" rel="noreferrer noopener">
              {visible(file.link.slice(0, 200))}
            </a>
          ) : (
            <span class="soft">▣</span>
          )}{" "}
          <span class="soft">{visible(file.about)}</span>
        </p>
      ))}
      {said.calls.map((call, i) => (
        <details key={i} open>
          <summary>
            calls <strong>{visible(call.name)}</strong>
          </summary>
          <pre>
            <Marked text={call.arguments} words={words} />
          </pre>
        </details>
      ))}
    </div>
  );
}
