/** A model call as a conversation: what is new in it, and what was said before. */
import type { JSX } from "preact";
import type { Span } from "../api";
import { asCurl, asJson, inputOf, outputOf, type Said, told } from "../conversation";
import { count, visible } from "../format";
import { Copyable } from "./bits";

export function Conversation({ span, spans }: { span: Span; spans: readonly Span[] }): JSX.Element {
  const input = inputOf(span);
  const output = outputOf(span);
  const before = told(span, spans);
  // Without an earlier call: the beginning of a long one.
  const old = before || (input.length > 4 ? input.length - 3 : 0);
  return (
    <div class="talk">
      <p class="acts">
        <Copyable text={JSON.stringify({ ...asJson(span), answer: output.map((m) => m.text).join("\n") }, null, 2)} shown="Copy as JSON" />
        <Copyable text={asCurl(span)} shown="Copy as curl" />
      </p>
      {old > 0 && (
        <details>
          <summary>
            {old} earlier {old === 1 ? "message" : "messages"}
            {before ? ", said in the call before" : ""}
          </summary>
          {input.slice(0, old).map((m, i) => (
            <Message key={i} said={m} />
          ))}
        </details>
      )}
      {input.slice(old).map((m, i) => (
        <Message key={i} said={m} />
      ))}
      {output.map((m, i) => (
        <Message key={i} said={m} answer tokens={i === output.length - 1 ? span.outputTokens : undefined} />
      ))}
    </div>
  );
}

function Message({ said, answer, tokens }: { said: Said; answer?: boolean; tokens?: number | undefined }): JSX.Element {
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
      {said.text && <pre>{visible(said.text)}</pre>}
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
          <pre>{visible(call.arguments)}</pre>
        </details>
      ))}
    </div>
  );
}
