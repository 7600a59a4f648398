import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { attempt, toast } from "./toast.tsx";

type Props = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "onClick" | "action"> & {
  kind?: "primary" | "plain" | "danger" | "quiet" | "icon" | "switch";
  action: () => Promise<unknown> | unknown;
  children: ComponentChildren;
};

const classes: Partial<Record<NonNullable<Props["kind"]>, string>> = { icon: "icon-button", switch: "switch" };

/** A button that is busy while its action runs and tells what failed. */
export function Button({ kind = "plain", action, children, disabled, class: extra, ...rest }: Props) {
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    await attempt(async () => action());
    setBusy(false);
  };
  return (
    <button type="button" {...rest} class={`${classes[kind] ?? `button ${kind}`} ${extra ?? ""}`}
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
