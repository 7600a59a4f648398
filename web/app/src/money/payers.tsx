import { wallet } from "@muster/sdk";
import type { Typed } from "../lib/spend.ts";
import { memberIds, nameOf } from "./state.ts";

/** Who paid: one all of it, or several a part each; the kitty may, too. */
export function Payers({ form: f, set }: { form: Typed; set: (change: Partial<Typed>) => void }) {
  const all = [...new Set([...memberIds.value, ...Object.keys(f.paid).filter((w) => w !== wallet), wallet])];
  if (!f.several) {
    return (
      <div class="field">
        <label for="payer">Who paid</label>
        <div class="inline">
          <select id="payer" data-testid="payer" value={f.payer} onChange={(e) => set({ payer: e.currentTarget.value })}>
            {all.map((who) => <option key={who} value={who}>{nameOf(who)}</option>)}
          </select>
          <button type="button" class="button quiet" data-testid="several-payers" onClick={() => set({ several: true, paid: { [f.payer]: f.amount } })}>Several</button>
        </div>
      </div>
    );
  }
  return (
    <fieldset class="split" data-testid="payers">
      <legend class="field-label">Who paid how much</legend>
      <ul class="items">
        {all.map((who) => (
          <li key={who}>
            <span class="grow break" id={`paid-by-${who}`}>{nameOf(who)}</span>
            <input class="short" inputMode="decimal" autocomplete="off" aria-labelledby={`paid-by-${who}`} data-testid={`paid-${nameOf(who)}`}
              value={f.paid[who] ?? ""} onInput={(e) => set({ paid: { ...f.paid, [who]: e.currentTarget.value } })} />
          </li>
        ))}
      </ul>
      <button type="button" class="button quiet" onClick={() => set({ several: false })}>One paid all of it</button>
    </fieldset>
  );
}
