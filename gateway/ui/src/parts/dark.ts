/** Whether the system's setting is dark: what is drawn by hand is drawn anew when it changes. */
import { useEffect, useState } from "preact/hooks";

export function useDark(): boolean {
  const [dark, set] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const tell = (): void => set(scheme.matches);
    scheme.addEventListener("change", tell);
    return () => scheme.removeEventListener("change", tell);
  }, []);
  return dark;
}
