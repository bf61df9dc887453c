package control

import "github.com/selvage-edge/selvage/feed"

// readers says who reads which signal. Threats have no producer yet, nor have
// measurements beside what health counts.
func (c *Control) readers() map[feed.Class]feed.Reader {
	return map[feed.Class]feed.Reader{
		feed.ClassHealth: c.health.Take,
		feed.ClassAudit:  c.audit.Take,
	}
}
