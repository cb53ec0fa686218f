/** What happened to a resource: its Events, the newest first. */
import type { JSX } from "preact";
import type { ResourceEvent } from "../api";
import { Mark, Time } from "./bits";

export function Events({ events, health }: { events: ResourceEvent[]; health?: boolean }): JSX.Element | null {
  if (!events.length) return null;
  return (
    <details>
      <summary>
        {events.length} {events.length === 1 ? "event" : "events"}
        {health ? ", changes of its health among them" : ""}
      </summary>
      <ul class="events">
        {[...events].reverse().map((event) => (
          <li key={event.time + event.reason + event.message} class={event.type === "Warning" ? "warn" : ""}>
            <Time at={event.time} /> <Mark state={event.reason} title={event.type} /> {event.message}
            {event.count && event.count > 1 ? ` (${event.count} times, the last one then)` : ""}
          </li>
        ))}
      </ul>
    </details>
  );
}
