/** A list of traces: what became of each, how long it took, what it cost, how it was judged. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Trace } from "../api";
import { cost, count, duration, full, ms, ofNs, visible } from "../format";
import { walked } from "../focus";
import { useRoomKeys } from "../keys";
import { choose, go, href, usePlace } from "../place";
import { Mark, Row, Time } from "./bits";

export const stateOf = (t: Trace): string => (t.durationNs !== null ? (t.status === "error" ? "error" : "ok") : t.lost ? "lost" : t.hung ? "hung" : "running");

export const WHY: Record<string, string | undefined> = {
  hung: "nothing was heard of it for a long time",
  lost: "the process that began it has ended: it can no longer end",
};

export function TraceTable({ traces }: { traces: Trace[] }): JSX.Element {
  const { query } = usePlace();
  const [now, setNow] = useState(Date.now());
  const running = traces.some((t) => stateOf(t) === "running");
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [running]);
  const took = (t: Trace): number => (t.durationNs === null ? Math.max(0, now - ms(t.startTime)) : t.durationNs / 1e6);
  const longest = Math.max(1, ...traces.filter((t) => !t.hung && !t.lost).map(took));
  const at = traces.findIndex((t) => t.id === query.get("at"));
  const to = (t: Trace): string => href(["traces", t.projectId, t.id]);
  const step = (by: number): void => {
    const next = traces[Math.max(0, Math.min(traces.length - 1, at < 0 ? 0 : at + by))];
    if (!next) return;
    choose({ at: next.id });
    document.querySelector(`[data-to="${CSS.escape(to(next))}"]`)?.scrollIntoView({ block: "nearest" });
  };
  const nextError = (): void => {
    const found = traces.find((t, i) => i > at && t.status === "error");
    if (found) choose({ at: found.id });
  };
  const box = useRef<HTMLDivElement>(null);
  useRoomKeys({ j: walked(box, () => step(1)), k: walked(box, () => step(-1)), e: walked(box, nextError), Enter: traces[at] && (() => go(to(traces[at]!))) });
  return (
    <div class="table-wrap traces" tabIndex={0} ref={box}>
      <table>
        <thead>
          <tr>
            <th>Status</th>
            <th>Trace</th>
            <th>Duration</th>
            <th class="num hide-narrow">Spans</th>
            <th class="num hide-narrow">Tokens</th>
            <th class="num hide-narrow">Cost</th>
            <th class="hide-narrow">Score</th>
            <th class="hide-narrow">Begun</th>
          </tr>
        </thead>
        <tbody>
          {traces.map((t) => {
            const state = stateOf(t);
            const judged = Object.entries(t.scores ?? {});
            return (
              <Row key={t.id} to={to(t)} at={t.id === query.get("at")}>
                <td class="nowrap">
                  <Mark state={state} title={WHY[state]} />
                </td>
                <td>
                  <a href={to(t)}>{visible(t.name) || "(no name)"}</a> <code class="soft">{t.id.slice(0, 8)}</code>
                  {t.errors > 0 && <span class="soft small"> {t.errors === 1 ? "1 span" : `${t.errors} spans`} failed</span>}
                </td>
                <td class="nowrap">
                  <span class={`took-bar ${state}`} style={{ width: `${Math.max(1, Math.min(1, took(t) / longest) * 88)}px` }} /> {t.durationNs === null ? duration(took(t)) : ofNs(t.durationNs)}
                </td>
                <td class="num hide-narrow">{count(t.spans)}</td>
                <td class="num hide-narrow" title={`${t.inputTokens} in, ${t.outputTokens} out`}>
                  {count(t.inputTokens + t.outputTokens)}
                </td>
                <td class="num hide-narrow">{cost(t.cost)}</td>
                <td class="hide-narrow small nowrap" title={judged.map(([name, value]) => `${name}: ${value}`).join("\n")}>
                  {judged.slice(0, 2).map(([name, value]) => (
                    <div key={name}>
                      <span class="soft">{visible(name)}</span> {typeof value === "number" ? Number(value.toPrecision(3)) : visible(value)}
                    </div>
                  ))}
                  {judged.length > 2 && <div class="soft">and {judged.length - 2} more</div>}
                </td>
                <td class="nowrap hide-narrow" title={full(t.startTime)}>
                  <Time at={t.startTime} />
                </td>
              </Row>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
