/** What can be done with a log: search, fold, find errors, wrap, follow, take along. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";

interface Props {
  /** Undefined: it is searched by something else. */
  search: string | undefined;
  find: (text: string) => void;
  /** How many lines there are. */
  told: string;
  foldAll: (() => void) | undefined;
  allFolded: boolean;
  older: (() => void) | undefined;
  nextError: () => void;
  wrap: boolean;
  wrapped: () => void;
  follow: boolean;
  followed: (() => void) | undefined;
  download: (() => Promise<void>) | undefined;
}

export function LogTools({ search, find, told, foldAll, allFolded, older, nextError, wrap, wrapped, follow, followed, download }: Props): JSX.Element {
  const [failed, fail] = useState("");
  const take = async (): Promise<void> => {
    fail("");
    try {
      await download?.();
    } catch (error) {
      fail((error as Error).message);
    }
  };
  return (
    <div class="log-tools">
      {search !== undefined && <input type="search" placeholder="Search in these lines" aria-label="Search in these lines" value={search} onInput={(event) => find(event.currentTarget.value)} />}
      <span class="soft small" role="status">
        {told}
      </span>
      {older && <button onClick={older}>Load older lines</button>}
      <span style={{ flex: 1 }} />
      {failed && <span role="alert">{failed}</span>}
      {foldAll && <button onClick={foldAll}>{allFolded ? "Unfold all" : "Fold all"}</button>}
      <button onClick={nextError} title="e">
        Next error
      </button>
      <button class={wrap ? "on" : ""} aria-pressed={wrap} onClick={wrapped} title="w">
        Wrap
      </button>
      {followed && (
        <button class={follow ? "on" : ""} aria-pressed={follow} onClick={followed} title="f">
          {follow ? "Following" : "Follow"}
        </button>
      )}
      <button onClick={() => void take()} disabled={!download}>
        Download
      </button>
    </div>
  );
}
