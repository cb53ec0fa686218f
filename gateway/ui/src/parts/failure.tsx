/** Why it failed: reason, place, last lines, and what to do. */
import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Failure } from "../api";
import { visible } from "../format";
import { Copyable } from "./bits";

export function FailureCard({ failure }: { failure: Failure }): JSX.Element {
  const where = [failure.pod, failure.container].filter(Boolean).join(", ");
  return (
    <section class="problem" aria-label="failure">
      <h2>
        {failure.reason}
        {failure.step ? ` in ${failure.step}` : ""}
        {failure.exitCode !== null && failure.exitCode !== undefined ? `, exit code ${failure.exitCode}` : ""}
      </h2>
      <div>{failure.message}</div>
      {where && <div class="soft small">{where}</div>}
      {failure.remedy && <div>{failure.remedy}</div>}
      {failure.lastLines && failure.lastLines.length > 0 && <LastLines text={visible(failure.lastLines.join("\n"))} />}
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
        {text}
      </pre>
      <p class="acts">
        <Copyable text={text} shown="Copy" />
      </p>
    </div>
  );
}
