/** Rows of a deployment's timeline: an entry, and a run of scores that stands for many. */
import type { JSX } from "preact";
import { plain } from "../ansi";
import { short } from "../commits";
import { UNITS } from "../figures";
import { clock, day, duration, full, visible } from "../format";
import { choose, href } from "../place";
import { type Run, type Sum, sums } from "../scoreruns";
import { type Entry, isBad, isWarning, KINDS } from "../timeline";
import { Words } from "./commit";
import { Cut } from "./cut";

const NAMES = new Map(KINDS.map(([kind, sign, name]) => [kind, { sign, name }]));

interface Props {
  /** What stands above it: where its day is another, that is said. */
  before: Entry | undefined;
  at: boolean;
  project: string | undefined;
}

/** `within`: it is one of a run that is open. */
export function Line({ entry, before, at, of, project, within }: Props & { entry: Entry; of: string; within: boolean }): JSX.Element {
  const to = leads(entry, of, project);
  const bad = isBad(entry) ? " bad" : isWarning(entry) ? " warn" : "";
  const facts = [
    entry.level,
    entry.kind === "span" && entry.status === "error" ? "failed" : "",
    entry.kind === "score" ? String(entry.value) : "",
    entry.durationNs === undefined ? "" : duration(entry.durationNs / 1e6),
    (entry.count ?? 1) > 1 ? `${entry.count} times` : "",
    entry.kind !== "revision" && entry.revision ? `revision ${entry.revision}` : "",
  ].filter(Boolean);
  const title = entry.kind === "commit" ? short(visible(entry.title)) : visible(plain(entry.title));
  return (
    <>
      <Day of={entry} before={before} />
      <article class={`story-row${bad}${at ? " at" : ""}${within ? " within" : ""}`} aria-current={at ? "true" : undefined} onClick={(e) => choosing(e, entry)}>
        <a class="when" href={linkTo(entry, of)} title={full(entry.time)}>
          <time dateTime={entry.time}>{clock(entry.time)}</time>
        </a>
        <What kind={entry.kind} />
        <span class="title">
          {to ? <a href={to}>{title || "(empty)"}</a> : title} {entry.kind === "commit" && <Words of={entry} />} {facts.length > 0 && <span class="soft small">{facts.join(" · ")}</span>}
          {entry.buildId && entry.kind !== "revision" && <span class="soft small"> {entry.buildId}</span>}
          {entry.detail && (
            <span class="more">
              <Cut text={plain(entry.detail)} lines={2} whole={at} />
            </span>
          )}
        </span>
      </article>
    </>
  );
}

/** How many scores, their mean and the worst; the worst one's trace is a link, the rest is behind the button. */
export function RunLine({ run, open, before, at, project, fold }: Props & { run: Run; open: boolean; fold: (run: Run, open: boolean) => void }): JSX.Element {
  const [first, last] = [run.entries[0]!, run.entries[run.entries.length - 1]!];
  return (
    <>
      <Day of={first} before={before} />
      <article class={`story-row run${at ? " at" : ""}`} aria-current={at ? "true" : undefined} onClick={(e) => takes(e) && fold(run, open)}>
        <span class="when" title={`${full(first.time)} to ${full(last.time)}`}>
          <time dateTime={first.time}>{clock(first.time)}</time>
        </span>
        <What kind="score" />
        <span class="title">
          <button aria-expanded={open} onClick={() => fold(run, open)}>
            <span aria-hidden="true">{open ? "▾" : "▸"}</span> {run.entries.length} scores
          </button>{" "}
          <span class="soft small">
            until {clock(last.time)}
            {first.revision ? ` · revision ${first.revision}` : ""}
          </span>
          <span class="sums">
            {sums(run).map((sum) => (
              <Summed key={sum.name} of={sum} project={project} />
            ))}
          </span>
        </span>
      </article>
    </>
  );
}

function Summed({ of: { name, count, mean, worst }, project }: { of: Sum; project: string | undefined }): JSX.Element {
  const to = worst?.traceId && project ? href(["traces", project, worst.traceId], { span: worst.spanId }) : undefined;
  const least = worst && `worst ${UNITS.plain(Number(worst.value))}`;
  return (
    <span class="sum">
      {visible(name)} <span class="soft small">{count} ×</span>
      {mean !== null && <span class="soft small">, mean {UNITS.plain(mean)}, </span>}
      {least && (to ? <a href={to}>{least}</a> : <span class="soft small">{least}</span>)}
    </span>
  );
}

function Day({ of, before }: { of: Entry; before: Entry | undefined }): JSX.Element | null {
  const now = day(of.time);
  return before && day(before.time) === now ? null : <div class="day soft small">{now}</div>;
}

function What({ kind }: { kind: Entry["kind"] }): JSX.Element {
  const { sign, name } = NAMES.get(kind)!;
  return (
    <span class="what">
      <span class={`sign ${kind.replace(":", "-")}`} aria-hidden="true">
        {sign}
      </span>
      <span class="soft small">{name}</span>
    </span>
  );
}

/** Whether a click means the row, and not what stands in it or a text that was marked. */
const takes = (event: MouseEvent): boolean => !(event.target as Element).closest("a, button") && !getSelection()?.toString();

function choosing(event: MouseEvent, entry: Entry): void {
  if (takes(event)) choose({ entry: entry.id });
}

const AROUND_MS = 10 * 60_000;

/** A link to this entry with the time around it, so that it is found again tomorrow. */
function linkTo(entry: Entry, of: string): string {
  const at = Date.parse(entry.time.slice(0, 23) + "Z");
  const moment = (by: number): string => new Date(at + by).toISOString();
  const now = Object.fromEntries(new URLSearchParams(location.search));
  return href(["deployments", of], {
    ...now, view: "timeline", entry: entry.id, range: undefined, from: moment(-AROUND_MS), to: moment(AROUND_MS),
  });
}

/** Where an entry leads: the build, the line, the trace. */
export function leads(entry: Entry, of: string, project: string | undefined): string | undefined {
  if ((entry.kind === "span" || entry.kind === "score") && entry.traceId && project) return href(["traces", project, entry.traceId], { span: entry.spanId });
  if (entry.kind === "server:log") return href(["deployments", of], { line: entry.recordId });
  if (entry.buildId) return href(["builds", entry.buildId], { line: entry.recordId });
  return undefined;
}
