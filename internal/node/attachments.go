package node

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/images"
)

// files is what a node keeps in the store of objects, and what it has to read images.
// Without a store it is nil: nobody uploads anything.
type files struct {
	catalog     *objects.Catalog
	turn        *images.Turn // of all who decode images here
	attachments *attachments.Store
}

func newFiles(cfg *Config, quota allowance, w *work) (*files, error) {
	if cfg.Objects == nil {
		return nil, nil
	}
	f := &files{catalog: objects.NewCatalog(cfg.DB, cfg.Objects, time.Now), turn: images.NewTurn()}
	var err error
	f.attachments, err = attachments.New(cfg.DB, f.catalog, cfg.Secret, attachments.Config{
		Base: strings.TrimSuffix(appBase(cfg.InviteBase), "/"), Turn: f.turn, Quota: quota,
	})
	if err != nil {
		return nil, err
	}
	f.catalog.Handle(w.Queue)
	w.sweep("objects", f.catalog.Sweep)
	w.sweep("uploads", f.attachments.Sweep)
	return f, nil
}

// operations are what the API needs.
func (f *files) operations() *attachments.Store {
	if f == nil {
		return nil
	}
	return f.attachments
}

// ofMessages are the files as core/chat sees them.
func (f *files) ofMessages() chat.Attachments {
	if f == nil {
		return nil
	}
	return messageFiles{f.attachments}
}

// messageFiles is core/attachments as core/chat sees it: neither knows the other.
type messageFiles struct{ *attachments.Store }

// Attach satisfies chat.Attachments.
func (m messageFiles) Attach(ctx context.Context, tx pgx.Tx, sender core.UserID, room string, ids []uuid.UUID) ([]chat.Attachment, error) {
	list, err := m.Store.Attach(ctx, tx, sender, room, ids)
	if err != nil {
		return nil, err
	}
	out := make([]chat.Attachment, len(list))
	for i, a := range list {
		out[i] = chat.Attachment(a)
	}
	return out, nil
}
