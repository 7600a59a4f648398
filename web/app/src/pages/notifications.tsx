import { useEffect } from "preact/hooks";
import { ago } from "../lib/age.ts";
import { notifications, openNotifications } from "../notices.ts";
import { now } from "../state.ts";
import { attempt } from "../ui/toast.tsx";
import { Page } from "./page.tsx";

const pages: Readonly<Record<string, string>> = { friend_request: "/people", friend_accepted: "/people", new_login: "/account", export_ready: "/account", password_changed: "/account", email_changed: "/account" };

/** What the user was told, the newest first. */
export function NotificationsPage() {
  useEffect(() => void attempt(openNotifications), []);
  const all = notifications.value;
  return (
    <Page title="Notifications">
      {all?.length === 0 && <p class="empty">Nothing yet.</p>}
      <ul class="items" aria-busy={all === undefined}>
        {all?.map((n) => {
          const group = typeof n.data["group_id"] === "string" ? `/g/${n.data["group_id"]}` : undefined;
          const to = pages[n.kind] ?? group;
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
