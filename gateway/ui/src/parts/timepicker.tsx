/** Which time is shown: before now, or from one moment to another, in local time or UTC. */
import type { JSX } from "preact";
import type { RefObject } from "preact";
import { useState } from "preact/hooks";
import { choose, usePlace } from "../place";
import { bounds, fromTyped, RANGES, typed, when } from "../when";
import "./frame.css";

export function TimePicker({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }): JSX.Element {
  const { query } = usePlace();
  const now = when(query);
  const utc = query.get("utc") === "1";
  const [wrong, setWrong] = useState("");
  const shut = (): void => dialog.current?.close();
  const [from, to] = bounds(now);
  const apply = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const start = fromTyped(String(form.get("from")), utc);
    const end = fromTyped(String(form.get("to")), utc);
    if (!start) return setWrong("When does it begin?");
    if (end && end <= start) return setWrong("It ends before it begins.");
    setWrong("");
    choose({ from: start, to: end, range: undefined }, false);
    shut();
  };
  return (
    <>
      <button class="when" onClick={() => dialog.current?.showModal()} title="time range (t)" aria-haspopup="dialog">
        <span class="only-heard">time range: </span>
        {now.label}
      </button>
      <dialog ref={dialog} class="picker" aria-label="time range">
        <h1>Time range</h1>
        <div class="ranges">
          {RANGES.map(([key, name]) => (
            <button
              key={key}
              class={now.from === key ? "on" : ""}
              aria-pressed={now.from === key}
              onClick={() => {
                choose({ range: key, from: undefined, to: undefined }, false);
                shut();
              }}
            >
              {name}
            </button>
          ))}
        </div>
        <form onSubmit={apply} key={`${now.from}${now.to}${utc}`}>
          <label>
            From <input name="from" type="datetime-local" step="1" defaultValue={typed(from, utc)} />
          </label>
          <label>
            To <input name="to" type="datetime-local" step="1" defaultValue={now.to ? typed(to, utc) : ""} />
          </label>
          <p class="soft small">Without an end: until now, and what comes.</p>
          {wrong && (
            <p class="mark bad" role="alert">
              {wrong}
            </p>
          )}
          <label class="switch">
            <input type="checkbox" checked={utc} onChange={(e) => choose({ utc: e.currentTarget.checked ? "1" : undefined })} /> times in UTC
          </label>
          <p class="acts">
            <button class="on">Show</button>
            <button type="button" onClick={shut}>
              Close
            </button>
          </p>
        </form>
      </dialog>
    </>
  );
}
