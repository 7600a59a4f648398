package local

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mustermesh/muster/core"
)

// maxForm bounds a call's body.
const maxForm = 64 << 10

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(*http.Request) (any, *failure){
		"POST /v1/customers":                    s.createCustomer,
		"DELETE /v1/customers/{id}":             s.deleteCustomer,
		"POST /v1/payment_methods/{id}/attach":  s.attachMethod,
		"POST /v1/payment_intents":              s.createIntent,
		"GET /v1/payment_intents/{id}":          s.getIntent,
		"POST /v1/payment_intents/{id}/confirm": s.confirmIntent,
		"POST /v1/payment_intents/{id}/cancel":  s.cancelIntent,
		"POST /v1/refunds":                      s.createRefund,
		"GET /v1/refunds/{id}":                  s.getRefund,
		"GET /v1/events":                        s.listEvents,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.call(w, r, do) })
	}
	mux.HandleFunc("GET /action/{id}", s.showAction)
	mux.HandleFunc("POST /action/{id}", s.doAction)
	return mux
}

// call carries out a call under the lock, once per idempotency key, as far as chaos
// lets it.
func (s *Server) call(w http.ResponseWriter, r *http.Request, do func(*http.Request) (any, *failure)) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		answered(failed(invalid("", "", "the form can't be read"))).write(w)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+s.cfg.Key {
		answered(failed(&failure{Status: http.StatusUnauthorized, Type: "invalid_request_error", Message: "Invalid API Key provided."})).write(w)
		return
	}
	a, cut := s.carryOut(r, do)
	if cut {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	a.write(w)
}

func (s *Server) carryOut(r *http.Request, do func(*http.Request) (any, *failure)) (a answer, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.happensLocked(s.cfg.Chaos.Fail) {
		return answered(failed(&failure{Status: http.StatusInternalServerError, Type: "api_error", Message: "something went wrong"})), false
	}
	cut = s.happensLocked(s.cfg.Chaos.Cut)
	key := r.Header.Get("Idempotency-Key")
	what := r.Method + " " + r.URL.Path + "?" + r.PostForm.Encode()
	if before, ok := s.Answers[key]; ok && key != "" && r.Method == http.MethodPost {
		if before.Call != what {
			return answered(failed(&failure{Status: http.StatusBadRequest, Type: "idempotency_error", Message: "Keys for idempotent requests can only be used with the same parameters they were first used with."})), cut
		}
		return before, cut
	}
	object, f := do(r)
	if a = answered(http.StatusOK, object); f != nil {
		a = answered(failed(f))
	}
	if r.Method == http.MethodGet {
		return a, cut
	}
	if a.Call = what; key != "" {
		if len(s.Answers) >= maxAnswers {
			clear(s.Answers)
		}
		s.Answers[key] = a
	}
	s.keepLocked()
	return a, cut
}

func failed(f *failure) (int, any) { return f.Status, map[string]any{"error": f} }

func answered(status int, object any) answer {
	b, err := json.Marshal(object)
	if err != nil { // never: they are ours
		panic(err)
	}
	return answer{Status: status, Body: b}
}

func (a answer) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

// metadata reads metadata[key]=value.
func metadata(f url.Values) map[string]string {
	m := map[string]string{}
	for k, v := range f {
		if name, ok := strings.CutPrefix(k, "metadata["); ok && len(v) > 0 {
			m[strings.TrimSuffix(name, "]")] = v[0]
		}
	}
	return m
}

func (s *Server) createCustomer(r *http.Request) (any, *failure) {
	c := &customer{ID: s.idLocked("cus"), Object: "customer", Metadata: metadata(r.PostForm)}
	s.Customers[c.ID] = c
	return c, nil
}

func (s *Server) deleteCustomer(r *http.Request) (any, *failure) {
	c := s.Customers[r.PathValue("id")]
	if c == nil {
		return nil, missing("customer", r.PathValue("id"))
	}
	delete(s.Customers, c.ID)
	c.Deleted = true
	return c, nil
}

func (s *Server) attachMethod(r *http.Request) (any, *failure) {
	id, who := r.PathValue("id"), r.PostForm.Get("customer")
	switch {
	case !strings.HasPrefix(id, "pm_"):
		return nil, missing("PaymentMethod", id)
	case s.Customers[who] == nil:
		return nil, invalid("resource_missing", "customer", "No such customer: '"+who+"'")
	case !strings.HasPrefix(id, saved):
		id = s.idLocked("pm_saved") + "_" + id
	}
	return map[string]string{"id": id, "object": "payment_method", "customer": who}, nil
}

func (s *Server) createIntent(r *http.Request) (any, *failure) {
	f := r.PostForm
	amount, err := strconv.ParseInt(f.Get("amount"), 10, 64)
	method, who := f.Get("payment_method"), f.Get("customer")
	switch {
	case err != nil || amount <= 0:
		return nil, invalid("parameter_invalid_integer", "amount", "Invalid positive integer")
	case amount > 99_999_999:
		return nil, invalid("amount_too_large", "amount", "Amount must be no more than 999,999.99")
	case !core.Currency(strings.ToUpper(f.Get("currency"))).Known():
		return nil, invalid("", "currency", "Invalid currency")
	case !strings.HasPrefix(method, "pm_"):
		return nil, invalid("resource_missing", "payment_method", "No such PaymentMethod: '"+method+"'")
	case who != "" && s.Customers[who] == nil:
		return nil, invalid("resource_missing", "customer", "No such customer: '"+who+"'")
	case strings.HasPrefix(method, saved) && who == "":
		return nil, invalid("", "payment_method", "The provided PaymentMethod cannot be attached without a customer.")
	}
	i := &Intent{
		ID: s.idLocked("pi"), Object: "payment_intent", Amount: amount, Currency: f.Get("currency"), Status: requiresConfirmation,
		Method: method, Customer: who, Save: f.Get("setup_future_usage"), Metadata: metadata(f), Created: time.Now().Unix(),
	}
	i.ClientSecret = s.idLocked(i.ID + "_secret")
	s.Intents[i.ID] = i
	s.tellLocked("payment_intent.created", i)
	return i, nil
}

func (s *Server) intent(r *http.Request) (*Intent, *failure) {
	if i := s.Intents[r.PathValue("id")]; i != nil {
		return i, nil
	}
	return nil, missing("payment_intent", r.PathValue("id"))
}

func (s *Server) getIntent(r *http.Request) (any, *failure) { return s.intent(r) }

func (s *Server) confirmIntent(r *http.Request) (any, *failure) {
	i, f := s.intent(r)
	if f == nil {
		f = s.confirmLocked(i, r.PostForm.Get("off_session") == "true", r.PostForm.Get("return_url"))
	}
	return i, f
}

func (s *Server) cancelIntent(r *http.Request) (any, *failure) {
	i, f := s.intent(r)
	if f == nil {
		f = s.cancelLocked(i)
	}
	return i, f
}

func (s *Server) createRefund(r *http.Request) (any, *failure) {
	i := s.Intents[r.PostForm.Get("payment_intent")]
	if i == nil {
		return nil, missing("payment_intent", r.PostForm.Get("payment_intent"))
	}
	amount, err := strconv.ParseInt(r.PostForm.Get("amount"), 10, 64)
	if err != nil && r.PostForm.Has("amount") {
		return nil, invalid("parameter_invalid_integer", "amount", "Invalid integer")
	}
	return s.refundLocked(i, amount, metadata(r.PostForm))
}

func (s *Server) getRefund(r *http.Request) (any, *failure) {
	if re := s.Refunds[r.PathValue("id")]; re != nil {
		return re, nil
	}
	return nil, missing("refund", r.PathValue("id"))
}

// listEvents lists the newest first, as far as they are asked for.
func (s *Server) listEvents(r *http.Request) (any, *failure) {
	q := r.Form
	var types []string
	for k, v := range q {
		if strings.HasPrefix(k, "types[") {
			types = append(types, v...)
		}
	}
	since, _ := strconv.ParseInt(q.Get("created[gte]"), 10, 64)
	limit, _ := strconv.Atoi(q.Get("limit"))
	after := q.Get("starting_after")
	page := []*event{}
	more := false
	for _, e := range slices.Backward(s.Events) {
		switch {
		case after != "":
			if e.ID == after {
				after = ""
			}
		case e.Created < since, len(types) > 0 && !slices.Contains(types, e.Type), q.Get("delivery_success") == "false" && e.Pending == 0:
		case len(page) == limit:
			more = true
		default:
			page = append(page, e)
		}
		if more {
			break
		}
	}
	return map[string]any{"object": "list", "url": "/v1/events", "has_more": more, "data": page}, nil
}

var actionPage = template.Must(template.New("action").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>A bank for tests</title>
<style>body{font:1rem/1.5 system-ui;max-width:30rem;margin:3rem auto;padding:0 1rem}button{font:inherit;min-height:44px;padding:0 1.5rem;margin-right:1rem}</style>
<h1>Your bank asks</h1><p>This is the local payment gateway: no money moves. Is this payment yours?</p>
<form method="post"><button name="answer" value="yes">Yes, pay</button><button name="answer" value="no">No</button></form></html>
`))

func (s *Server) showAction(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = actionPage.Execute(w, nil) // the browser may have gone
}

// doAction is a payer's answer to their bank.
func (s *Server) doAction(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	yes := r.FormValue("answer") == "yes"
	s.mu.Lock()
	i := s.Intents[r.PathValue("id")]
	if i == nil || i.ClientSecret != r.URL.Query().Get("secret") || i.Status != requiresAction {
		s.mu.Unlock()
		http.Error(w, "there is nothing to be answered", http.StatusNotFound)
		return
	}
	if yes {
		s.succeedLocked(i)
	} else {
		s.refuseLocked(i, &failure{Type: "invalid_request_error", Code: "payment_intent_authentication_failure", Message: "The provided PaymentMethod has failed authentication."})
	}
	s.keepLocked()
	back := i.Return
	s.mu.Unlock()
	if back == "" {
		_, _ = w.Write([]byte("Thank you. You can close this page."))
		return
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}
