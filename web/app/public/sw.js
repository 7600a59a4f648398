// The service worker: shows what the server pushes while no page is open, and
// opens the page that it is about. It keeps nothing and answers no requests.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  let told = {};
  try {
    told = event.data?.json() ?? {};
  } catch {
    // Not ours to read: say at least that there is something.
  }
  const { title = "Muster", body = "There is news for you.", notification_id: id, url = "/" } = told;
  // Of one notification there is one, however often it is pushed.
  event.waitUntil(self.registration.showNotification(title, { body, tag: id, icon: "/icon.svg", data: { url } }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const url = new URL(event.notification.data?.url ?? "/", self.location.origin);
  if (url.origin !== self.location.origin) return; // nobody is sent elsewhere
  event.waitUntil(
    self.clients.matchAll({ type: "window", includeUncontrolled: true }).then(async (pages) => {
      const [page] = pages;
      if (!page) return self.clients.openWindow(url.href);
      await page.focus();
      if (url.pathname !== "/" || url.hash !== "") await page.navigate(url.href);
    }),
  );
});
