import { useLocation, useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { closeGroup, openGroup, text } from "../live.ts";
import { Balances } from "../money/balances.tsx";
import { Expenses } from "../money/expenses.tsx";
import { Recurring } from "../money/recurring.tsx";
import { Settlements } from "../money/settlements.tsx";
import { balances, closeMoney, money, openMoney } from "../money/state.ts";
import { StatusLine } from "../sheets/status.tsx";
import { account, group, me } from "../state.ts";
import { Segments } from "../ui/segments.tsx";
import { Page } from "./page.tsx";

type Part = "expenses" | "balances" | "payments" | "recurring";
const parts: readonly (readonly [Part, string])[] = [["expenses", "Spent"], ["balances", "Debts"], ["payments", "Payments"], ["recurring", "Recurring"]];

/** The money of a group: what was spent, who owes whom, and what settled it. */
export function MoneyPage() {
  const id = useRoute().params["id"] ?? "";
  const { route } = useLocation();
  const [part, setPart] = useState<Part>("expenses");
  const [problem, setProblem] = useState("");
  const signedIn = account.value != null;
  useEffect(() => {
    if (!signedIn) return;
    setProblem("");
    const failed = (err: unknown) => setProblem(text(err));
    openGroup(id, () => route("/")).catch(failed);
    openMoney(id).catch(failed);
    return () => {
      closeMoney();
      closeGroup();
    };
  }, [id, signedIn]);
  const name = group.value?.name ?? "";
  useEffect(() => {
    document.title = `Money${name && ` of ${name}`} · Muster`;
    return () => void (document.title = "Muster");
  }, [name]);
  return (
    <Page title={name ? `Money of ${name}` : "Money"} back={[`/g/${id}`, "Back to the group"]}>
      {problem !== "" && <p class="lead" role="alert">{problem}</p>}
      {problem === "" && (
        <>
          <StatusLine />
          <Standing />
          <Segments label="What to look at" value={part} options={parts} pick={setPart} testid="money-parts" stacked />
          {part === "expenses" && <Expenses />}
          {part === "balances" && <Balances />}
          {part === "payments" && <Settlements />}
          {part === "recurring" && <Recurring />}
        </>
      )}
    </Page>
  );
}

/** How the user stands, in every currency. */
function Standing() {
  const b = balances.value;
  if (!b) return <p class="standing-line muted" role="status">Reading…</p>;
  const mine = b.balances.filter((x) => x.who === me.value);
  const say = (sign: number) => mine.filter((x) => Math.sign(x.money.amount) === sign).map((x) => money({ ...x.money, amount: Math.abs(x.money.amount) })).join(" and ");
  const [owed, owe] = [say(1), say(-1)];
  return (
    <p class="standing-line" role="status" data-testid="standing">
      {owed && <>You are owed <strong class="num">{owed}</strong>. </>}
      {owe && <>You owe <strong class="num owes">{owe}</strong>.</>}
      {!owed && !owe && "You are even."}
    </p>
  );
}
