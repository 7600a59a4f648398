import { type Share, typedMoney } from "@muster/sdk";
import { modes, type Typed } from "../lib/spend.ts";
import { Segments } from "../ui/segments.tsx";
import { memberIds, money, nameOf } from "./state.ts";

interface Props {
  form: Typed;
  set: (change: Partial<Typed>) => void;
  /** What each would bear; undefined: not known yet. */
  shares: readonly Share[] | undefined;
}

const units: Partial<Record<Typed["mode"], string>> = { percent: "percent", shares: "shares", weights: "weight" };

/** Among whom and how an expense is split, with what that comes to for each. */
export function SplitEditor({ form: f, set, shares }: Props) {
  const bears = (user: string) => {
    const s = shares?.find((x) => x.userId === user);
    return s && money({ amount: s.amount, currency: f.currency });
  };
  // Who has left, and has a part of what is edited, is still shown.
  const typed = f.parts[f.mode] ?? {};
  const all = [...new Set([...memberIds.value, ...f.among, ...Object.keys(typed)])];
  const put = (user: string, v: string) => set({ parts: { ...f.parts, [f.mode]: { ...typed, [user]: v } } });
  const toggle = (user: string, on: boolean) => set({ among: on ? [...f.among, user] : f.among.filter((u) => u !== user) });
  return (
    <fieldset class="split" data-testid="split">
      <legend class="field-label">Split</legend>
      <Segments label="How it is split" value={f.mode} options={modes} pick={(mode) => set({ mode })} testid="split-mode" stacked />
      <ul class="items">
        {all.map((user) => (
          <li key={user} data-testid={`part-${nameOf(user)}`}>
            {f.mode === "equal" ? (
              <label class="check-line grow">
                <input type="checkbox" checked={f.among.includes(user)} onChange={(e) => toggle(user, e.currentTarget.checked)} />
                <span class="break">{nameOf(user)}</span>
              </label>
            ) : (
              <>
                <span class="grow break" id={`part-of-${user}`}>{nameOf(user)}{units[f.mode] && <small>{units[f.mode]}</small>}</span>
                <input class="short" inputMode="decimal" autocomplete="off" aria-labelledby={`part-of-${user}`} data-testid={`part-input-${nameOf(user)}`}
                  placeholder={f.mode === "exact" ? typedMoney({ amount: 0, currency: f.currency }) : "0"}
                  value={typed[user] ?? ""} onInput={(e) => put(user, e.currentTarget.value)} />
              </>
            )}
            <span class="bears num" data-testid={`bears-${nameOf(user)}`}>{bears(user) ?? "–"}</span>
          </li>
        ))}
      </ul>
    </fieldset>
  );
}
