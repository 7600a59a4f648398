import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { attempt, toast } from "./toast.tsx";

type Props = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "onClick" | "action"> & {
  kind?: "primary" | "plain" | "danger" | "quiet" | "icon";
  action: () => Promise<unknown> | unknown;
  children: ComponentChildren;
};

/** A button that is busy while its action runs and tells what failed. */
export function Button({ kind = "plain", action, children, disabled, class: extra, ...rest }: Props) {
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    await attempt(async () => action());
    setBusy(false);
  };
  return (
    <button type="button" {...rest} class={`${kind === "icon" ? "icon-button" : `button ${kind}`} ${extra ?? ""}`}
      disabled={busy || Boolean(disabled)} aria-busy={busy} onClick={() => void run()}>
      {children}
    </button>
  );
}

/** Copies text; says so. */
export async function copy(text: string, what: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  toast(`${what} copied`);
}
