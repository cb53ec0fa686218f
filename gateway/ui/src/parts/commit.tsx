/** What was committed, by whom and when. Subject and author are text of strangers. */
import type { JSX } from "preact";
import type { Source } from "../api";
import { short } from "../commits";
import { visible } from "../format";
import { Time } from "./bits";
import "./commit.css";

/** Its id and subject, on a line of their own below what has it. */
export function Subject({ of }: { of: Source | undefined }): JSX.Element | null {
  if (!of?.commit) return null;
  return (
    <span class="commit-line">
      <Id of={of.commit} /> {of.subject && <span class="soft">{visible(of.subject)}</span>}
    </span>
  );
}

/** All of it, in a line. */
export function Committed({ of }: { of: Source }): JSX.Element {
  return (
    <>
      <Id of={of.commit ?? ""} /> <Words of={of} />
    </>
  );
}

/** Subject, author and time, of what has them. */
export function Words({ of }: { of: Source }): JSX.Element {
  return (
    <>
      {of.subject && <span class="subject">{visible(of.subject)}</span>}
      {(of.author || of.committedAt) && (
        <span class="soft small">
          {of.author && ` by ${visible(of.author)}`}
          {of.committedAt && (
            <>
              {of.author ? ", " : " "}
              <Time at={of.committedAt} />
            </>
          )}
        </span>
      )}
    </>
  );
}

function Id({ of }: { of: string }): JSX.Element {
  return <code title={`commit ${of}`}>{short(of)}</code>;
}
