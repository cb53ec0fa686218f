/** Who reads, and the doors in and out. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { get, post, Refused } from "../api";
import { visible } from "../format";
import { choose, usePlace } from "../place";
import { LEFT, type WhoAmI } from "../session";

/** Nothing where the gateway asks nobody who they are. */
export function SignedIn({ who, leave }: { who: WhoAmI | undefined; leave: () => void }): JSX.Element | null {
  if (!who?.user) return null;
  return (
    <>
      <span class="user" title={visible(who.user)}>
        <span class="only-heard">signed in as </span>
        {visible(who.user)}
      </span>
      <button onClick={leave}>Sign out</button>
    </>
  );
}

export function Login({ again }: { again: () => void }): JSX.Element {
  const left = usePlace().query.has(LEFT);
  const [error, setError] = useState("");
  const enter = async (form: HTMLFormElement): Promise<void> => {
    try {
      await post("login", { token: String(new FormData(form).get("token")).trim() });
      await get("projects");
      choose({ [LEFT]: undefined });
      again();
    } catch (problem) {
      setError(problem instanceof Refused ? problem.message : String(problem));
    }
  };
  return (
    <main class="room-body login">
      <h1>Sign in to Spanyard</h1>
      {left && <p role="status">You are signed out, in all tabs; this browser keeps nothing of what was seen.</p>}
      <p>
        Paste a Kubernetes token. <code>kubectl create token NAME</code> makes one for a service account. It is shown to the gateway once and kept nowhere.
      </p>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          void enter(e.currentTarget);
        }}
      >
        <input name="token" type="password" autocomplete="off" required aria-label="token" />
        <p>
          <button>Sign in</button>
        </p>
      </form>
      {error && (
        <div class="problem" role="alert">
          {error}
        </div>
      )}
    </main>
  );
}
