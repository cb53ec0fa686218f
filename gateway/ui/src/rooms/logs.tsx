/** What did it print? All lines of a project, live. */
import type { JSX } from "preact";
import { Empty } from "../parts/bits";
import { LogView } from "../parts/logview";
import { choose, usePlace } from "../place";
import { levelFilter, useLines } from "../streaming";

export function Logs({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const level = query.get("level") ?? "";
  const text = query.get("text") ?? "";
  const filter = { ...levelFilter(level), ...(text ? { text } : {}) };
  const stream = useLines(project ? `project:${project}` : "", filter);
  if (!project) return <Empty>Choose a project above.</Empty>;
  return (
    <>
      <div class="head">
        <h1>Logs</h1>
        <select aria-label="level" value={level} onChange={(e) => choose({ level: e.currentTarget.value })}>
          <option value="">every level</option>
          <option value="info,warn,error,fatal">info and worse</option>
          <option value="warn,error,fatal">warn and worse</option>
          <option value="error,fatal">error and worse</option>
        </select>
        <input aria-label="only lines with this text" placeholder="only lines with …" value={text} onChange={(e) => choose({ text: e.currentTarget.value })} />
        <span class="soft small">the newest 10,000 lines, and what comes</span>
      </div>
      {stream.note && <p class="soft">{stream.note}</p>}
      <LogView lines={stream.lines} version={stream.version} name={project} project={project} live empty={stream.started ? "No line matches." : "Loading …"} />
    </>
  );
}
