package audit

import (
	"os"
	"testing"

	"github.com/selvage-edge/selvage/control/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }
