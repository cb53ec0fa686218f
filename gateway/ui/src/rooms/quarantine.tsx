/** What could not be loaded: look at it, correct it, load it after all, or give it up. */
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { get, type Page, part, post, type Quarantined } from "../api";
import { useAsked } from "../asking";
import { bytes, visible } from "../format";
import { Mark, Ready, Time } from "../parts/bits";
import { Worded } from "../parts/worded";
import { choose, usePlace } from "../place";

const LIMIT = 200;
/** What must be typed before something is given up. */
const WORD = "delete";

const STATES = [
  ["", "in quarantine"],
  ["replayed", "replayed"],
  ["deleted", "deleted"],
] as const;

type Act = (item: Quarantined, action: "replay" | "delete", body: { text?: string }) => Promise<void>;

const what = (item: Quarantined): string => (item.line ? `line ${item.line}` : "the whole object");

export function Quarantine({ project }: { project: string }): JSX.Element {
  const { query } = usePlace();
  const state = query.get("quarantine") ?? "";
  const params = { limit: LIMIT, project: project || undefined, state: state === "replayed" || state === "deleted" ? state : "open" };
  const found = useAsked<Page<Quarantined>>("quarantine", params, 5_000);
  // Further pages, as long as the same is asked for.
  const [more, setMore] = useState<{ key: string; items: Quarantined[]; cursor: string | null }>();
  const [told, setTold] = useState("");
  const key = JSON.stringify(params);
  const further = more?.key === key ? more : undefined;
  const cursor = further ? further.cursor : found.data?.nextCursor;
  const trying = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      setTold((error as Error).message);
    }
  };
  const act: Act = (item, action, body) =>
    trying(async () => {
      await post(`quarantine/${part(item.id)}/${action}`, body);
      setTold(`${action === "replay" ? "Replayed" : "Deleted"}: ${what(item)} of ${item.key}`);
      if (further) setMore({ ...further, items: further.items.filter((other) => other.id !== item.id) });
      found.again();
    });
  const load = (): Promise<void> =>
    trying(async () => {
      const page = await get<Page<Quarantined>>("quarantine", { ...params, cursor });
      setMore({ key, items: [...(further?.items ?? []), ...page.items], cursor: page.nextCursor });
    });
  return (
    <>
      <div class="head">
        <h2>Quarantine</h2>
        <select aria-label="what became of it" value={state} onChange={(e) => choose({ quarantine: e.currentTarget.value })}>
          {STATES.map(([name, words]) => (
            <option key={name} value={name}>
              {words}
            </option>
          ))}
        </select>
      </div>
      <p role="status">{visible(told)}</p>
      <Ready of={found}>
        {(page) => {
          const first = new Set(page.items.map((item) => item.id));
          const items = [...page.items, ...(further?.items ?? []).filter((item) => !first.has(item.id))];
          if (items.length === 0) return <p class="soft">{state ? "There is none." : "Nothing is in quarantine."}</p>;
          return (
            <>
              <div class="table-wrap" tabIndex={0}>
                <table>
                  <thead>
                    <tr>
                      <th>Line</th>
                      <th>Reason</th>
                      <th>Since</th>
                      <th>State</th>
                      <th>
                        <span class="only-heard">what to do</span>
                      </th>
                    </tr>
                  </thead>
                  <tbody>
                    {items.map((item) => (
                      <Bad key={item.id} item={item} act={act} />
                    ))}
                  </tbody>
                </table>
              </div>
              {cursor && (
                <p>
                  <button onClick={load}>More</button>
                </p>
              )}
            </>
          );
        }}
      </Ready>
    </>
  );
}

function Bad({ item, act }: { item: Quarantined; act: Act }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState(item.text);
  const [giving, setGiving] = useState(false);
  const [typed, setTyped] = useState("");
  const open = item.status === "open";
  const kept = new TextEncoder().encode(item.text).length;
  // Half a line sent back as the whole one would lose the rest of it.
  const fixed = !item.line ? "It is a whole object: it is loaded as it is, or not at all." : item.size > kept ? `Only the first ${bytes(kept)} of ${bytes(item.size)} are shown: it can be loaded as it is, not corrected here.` : "";
  const shut = (): void => {
    dialog.current?.close();
    setGiving(false);
    setTyped("");
  };
  const replay = (): void => {
    shut();
    void act(item, "replay", fixed || text === item.text ? {} : { text });
  };
  const remove = (event: Event): void => {
    event.preventDefault();
    shut();
    void act(item, "delete", {});
  };
  const counted = item.line ? "1 quarantined line" : "1 quarantined object";
  return (
    <tr>
      <td>
        <code title={item.key}>{visible(item.text.slice(0, 120))}</code>
        <div class="soft small">
          {item.projectId}, {item.signal}, {what(item)}, {bytes(item.size)}
        </div>
      </td>
      <td>
        <Worded text={item.reason} />
      </td>
      <td class="nowrap">
        <Time at={item.quarantinedAt} />
      </td>
      <td>
        <Mark state={item.status} />
      </td>
      <td class="nowrap">
        <button onClick={() => dialog.current?.showModal()} disabled={!open}>
          Look
        </button>
        <dialog ref={dialog} aria-label="a line in quarantine" onClose={shut}>
          <p>
            <Worded text={item.reason} />
          </p>
          <textarea aria-label="the line" rows={10} style={{ width: "100%", fontFamily: "var(--mono)" }} readOnly={Boolean(fixed)} value={text} onInput={(e) => setText(e.currentTarget.value)} />
          {giving ? (
            <form onSubmit={remove}>
              <p>
                This gives up {counted} of {item.projectId || "no project"} for good. Type <code>{WORD}</code> to go on.
              </p>
              <input aria-label={`type ${WORD}`} autocomplete="off" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />{" "}
              <button disabled={typed.trim() !== WORD}>Delete for good</button>{" "}
              <button type="button" onClick={() => setGiving(false)}>
                Keep
              </button>
            </form>
          ) : (
            <>
              <p>{fixed || "Replay loads this one line, as it stands here."}</p>
              <button onClick={replay}>Replay</button> <button onClick={() => setGiving(true)}>Delete …</button> <button onClick={shut}>Close</button>
            </>
          )}
        </dialog>
      </td>
    </tr>
  );
}
