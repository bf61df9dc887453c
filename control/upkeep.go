package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/selvage-edge/selvage/control/api/v4"
	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
)

const (
	// renewBefore is how long before its end a managed certificate is renewed.
	renewBefore = 30 * 24 * time.Hour
	// upkeepEvery is how often certificates are looked at, and how long a step
	// that failed waits.
	upkeepEvery = time.Hour
	retryAfter  = 10 * time.Second
)

// wakeTimer says that an expiry changed.
func (c *Control) wakeTimer() {
	select {
	case c.timer <- struct{}{}:
	default:
	}
}

// upkeep does what nobody asks for: settings that fall back by themselves,
// certificates that need renewing. What is due is read from the store, so a
// restart forgets nothing.
func (c *Control) upkeep(ctx context.Context) error {
	renew := time.Time{}
	for {
		wait, err := c.upkeepOnce(ctx, &renew)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.log.Error("upkeep failed, trying again", "error", err, "after", retryAfter)
			wait = retryAfter
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-c.timer:
		}
		t.Stop()
	}
}

// upkeepOnce does what is due and returns how long nothing will be. Of several
// control planes the one that leads does what is in the store; it looks more
// often, since the others do not tell it of new times.
func (c *Control) upkeepOnce(ctx context.Context, renew *time.Time) (wait time.Duration, err error) {
	wait = upkeepEvery
	if c.store.Shared() {
		wait = retryAfter
	}
	due := time.Until(*renew) <= 0
	if due {
		err = c.renewSelf()
	}
	if err == nil && c.publish.Leads() {
		var next time.Time
		if next, err = c.expire(ctx); err == nil && !next.IsZero() {
			wait = min(wait, max(0, time.Until(next)))
		}
		if err == nil {
			if next, err = c.publish.ExpireKills(ctx, time.Now()); err == nil && !next.IsZero() {
				wait = min(wait, max(0, time.Until(next)))
			}
		}
		if err == nil && due {
			err = c.renewCertificates(ctx)
		}
	}
	if due && err == nil {
		*renew = time.Now().Add(upkeepEvery)
	}
	return wait, err
}

func (c *Control) renewSelf() error {
	_, err := c.authority.RenewControl(time.Now())
	return err
}

// expire drops settings whose time is over and returns when the next one's is.
func (c *Control) expire(ctx context.Context) (time.Time, error) {
	for {
		var e store.Expiry
		var some bool
		if err := c.store.Read(ctx, func(tx *store.Tx) (err error) {
			e, some, err = tx.NextExpiry(ctx)
			return err
		}); err != nil {
			return time.Time{}, err
		}
		if !some || time.Now().Before(e.At) {
			return e.At, nil
		}
		_, err := c.publish.Edit(ctx, e.Zone, publish.Action{Actor: "control", Name: "setting.expire", Object: e.Zone}, func(z *store.Zone) error {
			// Somebody may have set it anew meanwhile.
			if s := z.Settings[e.Name]; s.Expires.Equal(e.At) {
				z.Settings[e.Name] = store.Setting{Value: []byte(`"off"`), Changed: store.Now()}
			}
			return nil
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			return time.Time{}, err
		}
	}
}

// certify gives a new zone a certificate of the site CA.
func (c *Control) certify(z *store.Zone) error {
	made, err := c.issue("", z.Name)
	if err != nil {
		return err
	}
	z.Stage(made)
	return nil
}

func (c *Control) issue(id, apex string) (store.Certificate, error) {
	chain, der, err := c.authority.IssueSite(identity.SiteHosts(apex))
	if err != nil {
		return store.Certificate{}, err
	}
	defer clear(der)
	return v4.NewCertificate(c.publish.Lock, id, chain, der)
}

// renewCertificates replaces managed certificates that are near their end.
func (c *Control) renewCertificates(ctx context.Context) error {
	type due struct{ zone, cert string }
	var all []due
	if err := c.store.Read(ctx, func(tx *store.Tx) error {
		return tx.AllCertificates(ctx, func(zoneID string, cert store.Certificate) error {
			if cert.Managed && time.Until(cert.Expires) < renewBefore {
				all = append(all, due{zoneID, cert.ID})
			}
			return nil
		})
	}); err != nil {
		return err
	}
	var errs []error
	for _, d := range all {
		_, err := c.publish.Edit(ctx, d.zone, publish.Action{Actor: "control", Name: "certificate.renew", Object: d.cert}, func(z *store.Zone) error {
			i := slices.IndexFunc(z.Certificates, func(c store.Certificate) bool { return c.ID == d.cert && c.Managed })
			if i < 0 {
				return nil // gone or replaced meanwhile
			}
			if slices.ContainsFunc(z.Staged, func(c store.Certificate) bool { return c.ID == d.cert }) {
				return nil // on its way
			}
			made, err := c.issue(d.cert, z.Name)
			if err != nil {
				return err
			}
			made.Created = z.Certificates[i].Created
			z.Stage(made)
			return nil
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			errs = append(errs, err)
		}
	}
	if len(all) > 0 {
		c.pairs.Wake()
	}
	return errors.Join(errs...)
}
