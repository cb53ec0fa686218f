/** Why it failed: reason, place, last lines, and what to do. */
import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Failure } from "../api";
import { ansi } from "../ansi";
import { visible } from "../format";
import { Copyable } from "./bits";
import { Worded } from "./worded";

/** `id`: of the build, for the command that a remedy names. */
export function FailureCard({ failure, id }: { failure: Failure; id?: string }): JSX.Element {
  const where = [failure.pod, failure.container].filter(Boolean).join(", ");
  return (
    <section class="problem" aria-label="failure">
      <h2>
        {failure.reason}
        {failure.step ? ` in ${failure.step}` : ""}
        {failure.exitCode !== null && failure.exitCode !== undefined ? `, exit code ${failure.exitCode}` : ""}
      </h2>
      <div>
        <Worded text={failure.message} />
      </div>
      {where && <div class="soft small">{where}</div>}
      {failure.remedy && (
        <div>
          <Worded text={id ? failure.remedy.replace(/\bID\b/, id) : failure.remedy} />
        </div>
      )}
      {failure.lastLines && failure.lastLines.length > 0 && <LastLines text={failure.lastLines.join("\n")} />}
    </section>
  );
}

/** What it printed last is why: of lines that do not fit the end is seen. */
function LastLines({ text }: { text: string }): JSX.Element {
  const box = useRef<HTMLPreElement>(null);
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return (
    <div>
      <pre ref={box} tabIndex={0} aria-label="last lines">
        {ansi(text).map((piece, i) => (
          <span key={i} style={piece.style}>
            {visible(piece.text)}
          </span>
        ))}
      </pre>
      <p class="acts">
        <Copyable text={text} shown="Copy" />
      </p>
    </div>
  );
}
