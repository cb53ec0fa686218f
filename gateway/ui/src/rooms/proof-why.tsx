/** What waits, what was lost and what is open: since when, why, and what to do. */
import type { JSX } from "preact";
import type { Backlog, Gap, WriterProof } from "../api";
import { extent, ofBacklog, ofGap, ofOpen } from "../causes";
import { Mark, Time } from "../parts/bits";
import { count, full, visible } from "../format";
import "./proof.css";

const MOST = 200;

export function Waiting({ of }: { of: Backlog | undefined }): JSX.Element | null {
  if (!of) return null;
  const { told, late, todo } = ofBacklog(of);
  return (
    <p class="backlog">
      <span class={`mark ${late ? "warn" : "good"}`}>{late ? "late" : "ok"}</span> <span title={of.oldestAt ? `since ${full(of.oldestAt)}` : undefined}>{told}</span> {todo}
    </p>
  );
}

export function Gaps({ gaps, writers }: { gaps: readonly Gap[]; writers: readonly WriterProof[] }): JSX.Element | null {
  if (!gaps.length) return null;
  const known = new Map(writers.map((writer) => [writer.writer, writer]));
  const newest = [...gaps].sort((a, b) => (a.timestamp < b.timestamp ? 1 : -1));
  return (
    <section aria-label="losses">
      <h2>Losses, as they were told</h2>
      <ul class="whys">
        {newest.slice(0, MOST).map((gap) => {
          const { means, todo } = ofGap(gap);
          const writer = known.get(gap.writer);
          return (
            <li key={gap.writer + gap.timestamp + gap.afterSeq + gap.cause}>
              <div>
                <Mark state={gap.lines === 0 && !gap.bytes ? "waited" : "missing"} /> <strong>{visible(gap.cause)}</strong>, <span title={gap.writer}>{writer?.pod || gap.writer}</span> <span class="soft">{writer?.container}</span>,{" "}
                {extent(gap)} {gap.afterSeq > 0 ? <span class="soft">after record {gap.afterSeq.toLocaleString("en")}</span> : null} <span class="soft"><Time at={gap.timestamp} /></span>
              </div>
              <div>{means}</div>
              {gap.message && <div class="soft">{visible(gap.message)}</div>}
              {between(gap) && <div class="soft">{between(gap)}</div>}
              <div>{todo}</div>
            </li>
          );
        })}
      </ul>
      {newest.length > MOST && <p class="soft">The newest {MOST} of {count(newest.length)}.</p>}
    </section>
  );
}

function between(gap: Gap): string {
  if (gap.fromTime && gap.toTime) return `Between ${full(gap.fromTime)} and ${full(gap.toTime)}.`;
  return gap.fromTime ? `After ${full(gap.fromTime)}.` : gap.toTime ? `Before ${full(gap.toTime)}.` : "";
}

/** Sources without an end; those of which the same is true stand together. */
export function Open({ writers }: { writers: readonly WriterProof[] }): JSX.Element | null {
  const open = writers.filter((writer) => writer.state === "open");
  if (!open.length) return null;
  const groups = new Map<string, { todo: string; of: WriterProof[] }>();
  for (const writer of open) {
    const { means, todo } = ofOpen(writer);
    const group = groups.get(means) ?? { todo, of: [] };
    groups.set(means, group);
    group.of.push(writer);
  }
  return (
    <section aria-label="open sources">
      <h2>Without an end yet</h2>
      <ul class="whys">
        {[...groups].map(([means, { todo, of }]) => (
          <li key={means}>
            <div>{means}</div>
            <div>{todo}</div>
            <details open={of.length <= 5}>
              <summary>{of.length === 1 ? "1 source" : `${count(of.length)} sources`}</summary>
              <ul>
                {of.slice(0, MOST).map((writer) => (
                  <li key={writer.signal + writer.writer} title={writer.writer}>
                    {writer.pod || writer.writer} <span class="soft">{[writer.container, writer.signal].filter(Boolean).join(", ")}, {writer.expected.toLocaleString("en")} {writer.expected === 1 ? "record" : "records"} so far{writer.begunAt ? ", begun " : ""}</span>
                    {writer.begunAt && <Time at={writer.begunAt} />}
                  </li>
                ))}
              </ul>
              {of.length > MOST && <p class="soft">And {count(of.length - MOST)} more.</p>}
            </details>
          </li>
        ))}
      </ul>
    </section>
  );
}
