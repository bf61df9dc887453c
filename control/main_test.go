package control

import (
	"os"
	"testing"

	"github.com/selvage-edge/selvage/control/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// stateConfig is a control plane with a new state folder.
func stateConfig(t *testing.T) Config {
	dir := t.TempDir()
	return Config{State: dir, Database: storetest.Beside(t, dir)}
}
