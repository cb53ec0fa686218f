/** Why it failed: reason, place, last lines, and what to do. */
import type { JSX } from "preact";
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
      {failure.lastLines && failure.lastLines.length > 0 && <Copyable text={visible(failure.lastLines.join("\n"))} />}
    </section>
  );
}
