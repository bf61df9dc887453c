package v4

import (
	"context"
	"net/http"
	"slices"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
)

type tokenStatus struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (s *Server) verifyToken(_ context.Context, c *api.Call) (api.Answer, error) {
	return api.Answer{Result: tokenStatus{c.Token.ID, c.Token.Status}}, nil
}

type userResult struct {
	ID        string `json:"id"`
	Email     string `json:"email"`
	Suspended bool   `json:"suspended"`
}

// user is the token's own: there are no other users yet.
func (s *Server) user(_ context.Context, c *api.Call) (api.Answer, error) {
	return api.Answer{Result: userResult{ID: c.Token.ID, Email: c.Token.Name + "@localhost"}}, nil
}

type accountResult struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	Type     string         `json:"type"`
	Settings map[string]any `json:"settings"`
	Created  string         `json:"created_on"`
}

func newAccountResult(a store.Account) accountResult {
	return accountResult{a.ID, a.Name, "standard", map[string]any{"enforce_twofactor": false}, stamp(a.Created)}
}

// accounts are those that the token has access to: its own.
func (s *Server) accounts(ctx context.Context, c *api.Call) (all []store.Account, err error) {
	err = s.Store.Read(ctx, func(tx *store.Tx) (err error) {
		all, err = tx.Accounts(ctx)
		return err
	})
	return slices.DeleteFunc(all, func(a store.Account) bool { return a.ID != c.Token.Account }), err
}

func (s *Server) listAccounts(ctx context.Context, c *api.Call) (api.Answer, error) {
	q := c.URL.Query()
	pages, err := api.ReadPages(q, 20, 50)
	if err != nil {
		return api.Answer{}, err
	}
	all, err := s.accounts(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	var results []accountResult
	for _, a := range all {
		if name := q.Get("name"); name == "" || name == a.Name {
			results = append(results, newAccountResult(a))
		}
	}
	part, info := api.Cut(pages, results)
	return api.Answer{Result: part, Info: info}, nil
}

func (s *Server) getAccount(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "account")
	if err != nil {
		return api.Answer{}, err
	}
	all, err := s.accounts(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	i := slices.IndexFunc(all, func(a store.Account) bool { return a.ID == id })
	if i < 0 {
		return api.Answer{}, &api.Problem{Status: http.StatusNotFound, Code: api.CodeIdentifier, Message: "account_id: no account has this identifier"}
	}
	return api.Answer{Result: newAccountResult(all[i])}, nil
}
