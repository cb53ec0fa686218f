/** The lines of a project in a time: those that come, and the stored ones before them, page by page. */
import { useRef } from "preact/hooks";
import { part } from "./api";
import { type Older, useOlder } from "./older";
import { type Streamed, useLines } from "./streaming";
import { bounds, type When } from "./when";

export function useProjectLines(project: string, query: string, time: When): Streamed & Omit<Older, "end"> {
  const view = `${project} ${query} ${time.from} ${time.to ?? ""} ${time.live}`;
  const start = useRef({ view: "", at: 0 });
  if (start.current.view !== view) start.current = { view, at: bounds(time)[0] };
  const filter = query ? { q: query } : {};
  const stream = useLines(project && time.live ? `project:${project}` : "", filter, undefined, { key: view, since: start.current.at });
  const { end, ...older } = useOlder(view, stream, {
    path: project ? `projects/${part(project)}/logs` : "",
    params: { from: new Date(start.current.at).toISOString(), q: query },
    to: time.to,
    ready: stream.started,
    atOnce: !time.live,
  });
  return { ...stream, ...older, started: time.live ? stream.started : end || stream.lines.length > 0 };
}
