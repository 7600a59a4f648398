package privacy

// aboutSubscriptions are what people pay for again and again. What they paid stays in
// their book, by ids alone.
var aboutSubscriptions = []table{
	{
		name:   "subscription_charges",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM subscription_charges WHERE user_id = $1`}},
		rows:   cols("trying", "payment_id"),
		keep:   map[string][]string{random: cols("id"), technics: cols("plan_id", "currency", "state")},
		export: `SELECT id, period, plan_id, amount, currency, starts_at, ends_at, state, created_at, paid_at, refunded FROM subscription_charges WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "subscriptions",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM subscriptions WHERE user_id = $1`}},
		rows:   cols("payment_method"),
		keep:   map[string][]string{technics: cols("plan_id", "next_plan_id", "currency", "state")},
		export: `SELECT plan_id, state, cancel, amount, currency, next_plan_id, trialed, starts_at, ends_at FROM subscriptions WHERE user_id = $1`,
	},
	{
		name:   "plan_prices",
		keep:   map[string][]string{technics: cols("plan_id", "currency")},
		hidden: noPeople,
	},
	{
		name:   "plans",
		keep:   map[string][]string{technics: cols("id", "name", "features")},
		hidden: noPeople,
	},
}
