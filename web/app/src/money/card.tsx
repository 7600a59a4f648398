import { useId, useState } from "preact/hooks";

// The methods by which a gateway lets payments be tried out (docs.stripe.com/testing):
// no money moves by them. Of a real card this page only ever has the gateway's id.
const trials: readonly (readonly [string, string])[] = [
  ["pm_card_visa", "Test card"],
  ["pm_card_authenticationRequired", "Test card, to be confirmed"],
  ["pm_card_chargeDeclined", "Test card, declined"],
  ["pm_local_slow", "Test debit, takes a moment"],
];

/** By what one pays: an id of the payment gateway's, never the data of a card. */
export function CardPicker({ pick, value }: { value: string; pick: (method: string) => void }) {
  const id = useId();
  const [other, setOther] = useState(false);
  return (
    <div class="field">
      <label for={id}>Pay by</label>
      <select id={id} data-testid="card" value={other ? "other" : value} onChange={(e) => {
        const v = e.currentTarget.value;
        setOther(v === "other");
        pick(v === "other" ? "" : v);
      }}>
        {trials.map(([v, name]) => <option key={v} value={v}>{name}</option>)}
        <option value="other">Another, by its id</option>
      </select>
      {other && <input aria-label="The gateway's id of it" placeholder="pm_…" value={value} onInput={(e) => pick(e.currentTarget.value.trim())} />}
      <small>The number of a card goes to the payment gateway alone, never here.</small>
    </div>
  );
}

export const usualCard = "pm_card_visa";
