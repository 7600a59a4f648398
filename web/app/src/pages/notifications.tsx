import { useEffect } from "preact/hooks";
import { ago } from "../lib/age.ts";
import { pageOf } from "../lib/kinds.ts";
import { notifications, openNotifications } from "../notices.ts";
import { now } from "../state.ts";
import { attempt } from "../ui/toast.tsx";
import { Page } from "./page.tsx";

/** What the user was told, the newest first. */
export function NotificationsPage() {
  useEffect(() => void attempt(openNotifications), []);
  const all = notifications.value;
  return (
    <Page title="Notifications">
      {all?.length === 0 && <p class="empty">Nothing yet.</p>}
      <ul class="items" aria-busy={all === undefined}>
        {all?.map((n) => {
          const to = pageOf(n.kind, n.data);
          const words = <span class="grow break"><strong>{n.title}</strong><small>{n.text}</small><small>{ago(n.createdAt.getTime(), now.value)}</small></span>;
          return (
            <li key={n.notificationId} data-testid="notification" data-kind={n.kind} class={n.readAt ? undefined : "fresh"}>
              {to ? <a class="row" href={to}>{words}</a> : words}
            </li>
          );
        })}
      </ul>
    </Page>
  );
}
