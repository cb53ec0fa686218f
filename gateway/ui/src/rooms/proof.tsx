/** Is anything missing? Coverage per source of records; below it the quarantine. */
import type { JSX } from "preact";
import type { Proof, WriterProof } from "../api";
import { part } from "../api";
import { useAsked } from "../asking";
import { useListKeys } from "../focus";
import { bytes, count } from "../format";
import { Empty, Mark, Ready } from "../parts/bits";
import { Gaps, Open, Waiting } from "./proof-why";
import { Quarantine } from "./quarantine";

/** Whether records of it are known to be gone or doubled. */
export const lost = (w: WriterProof): boolean => w.missing > 0 || w.doubled > 0 || w.lostLines > 0 || w.lostBytes > 0 || w.gaps > 0;

export function ProofRoom({ project }: { project: string }): JSX.Element {
  const proof = useAsked<Proof>(project ? `projects/${part(project)}/proof` : "proof", {}, 5_000);
  useListKeys("td button:not(:disabled), .whys summary");
  return (
    <>
      <div class="head">
        <h1>Proof</h1>
      </div>
      <Ready of={proof}>
        {(found) => {
          const sum = (pick: (w: WriterProof) => number): number => found.writers.reduce((all, w) => all + pick(w), 0);
          const bad = found.writers.filter(lost);
          const open = found.writers.filter((w) => w.state === "open").length;
          return (
            <>
              <p>
                <Mark state={bad.length ? "missing" : "ok"} /> {count(sum((w) => w.stored))} of {count(sum((w) => w.expected))} records stored,{" "}
                {count(sum((w) => w.missing))} missing, {count(sum((w) => w.doubled))} doubled, {count(sum((w) => w.pending))} on their way, {count(sum((w) => w.quarantined))} in quarantine,{" "}
                {count(sum((w) => w.lostLines))} told as lost; {open} of {found.writers.length} sources still open.
              </p>
              <Waiting of={found.backlog} />
              <Gaps gaps={found.gaps} writers={found.writers} />
            </>
          );
        }}
      </Ready>
      <Quarantine project={project} />
      {proof.data && <Sources found={proof.data} />}
    </>
  );
}

/** What can be done something about stands above; this is the whole account. */
function Sources({ found }: { found: Proof }): JSX.Element {
  return (
    <>
      <h2>Sources</h2>
      {found.writers.length === 0 ? (
        <Empty command="spanyard up examples/support-agent">Nothing was collected yet. Run the example:</Empty>
      ) : (
        <div class="table-wrap" tabIndex={0}>
          <table class="sources">
            <thead>
              <tr>
                <th>Source</th>
                <th>Signal</th>
                <th>State</th>
                <th>Coverage</th>
                <th class="num">Stored</th>
                <th class="num">Missing</th>
                <th class="num hide-narrow">Gaps</th>
              </tr>
            </thead>
            <tbody>
              {[...found.writers]
                .sort((a, b) => Number(lost(b)) - Number(lost(a)))
                .slice(0, 500)
                .map((w) => (
                  <tr key={w.signal + w.writer}>
                    <td class="source" title={w.writer}>
                      {w.pod || w.writer} <span class="soft">{w.container}</span>
                    </td>
                    <td>{w.signal}</td>
                    <td>
                      <Mark state={lost(w) ? "missing" : w.state} />
                    </td>
                    <td>
                      <Cover of={w} />
                    </td>
                    <td class="num">
                      {count(w.stored)} / {count(w.expected)}
                    </td>
                    <td class="num">{count(w.missing)}</td>
                    <td class="num hide-narrow">
                      {w.gaps}
                      {w.lostBytes ? ` (${bytes(w.lostBytes)})` : ""}
                    </td>
                  </tr>
                ))}
            </tbody>
          </table>
        </div>
      )}
      <Open writers={found.writers} />
      {found.writers.length > 500 && <p class="soft">The worst 500 of {count(found.writers.length)} sources.</p>}
    </>
  );
}

function Cover({ of: w }: { of: WriterProof }): JSX.Element {
  const whole = Math.max(1, w.expected + w.lostLines);
  const width = (n: number): string => `${(n / whole) * 100}%`;
  return (
    <span class="cover" role="img" aria-label={`${w.stored} of ${w.expected} stored`}>
      <i style={{ width: width(w.stored) }} />
      <i class="waiting" style={{ width: width(w.pending + w.quarantined) }} />
      <i class="lost" style={{ width: width(w.missing + w.lostLines) }} />
    </span>
  );
}
