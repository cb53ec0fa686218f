/** The end of a session: nothing of it stays in the browser, in no tab. Its begin is the page's first question. */
import { post } from "./api";
import { live } from "./live";
import { root } from "./place";

/** `GET /whoami`. */
export interface WhoAmI {
  auth: "none" | "kubernetes";
  user: string;
}

/** In the address of who has just left, so that the page says so. */
export const LEFT = "signed-out";

const tabs = new BroadcastChannel("spanyard.session");

/** Ends it at the gateway, then here and in the other tabs. Raises `Refused`: then it goes on. */
export async function signOut(): Promise<void> {
  await post("logout", {});
  tabs.postMessage(LEFT);
  leave();
}

/** Also when another tab did it; and a page that the browser kept is not brought back by its Back button. */
export function watchSession(): () => void {
  const restored = (event: PageTransitionEvent): void => {
    if (event.persisted) location.reload();
  };
  tabs.onmessage = leave;
  addEventListener("pageshow", restored);
  return () => {
    tabs.onmessage = null;
    removeEventListener("pageshow", restored);
  };
}

/** A new document: what the old one had in memory goes with it. */
function leave(): void {
  live.close();
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith("spanyard.")) localStorage.removeItem(key);
  } catch {
    // a browser that keeps nothing has nothing to forget
  }
  location.replace(`${root}?${LEFT}=1`);
}
