package supervise

import "syscall"

// dieWithParent has the kernel kill the child when the supervisor dies, so that
// nobody is left holding state and ports. SIGKILL, since a child that drains
// would keep its state locked while the next supervisor starts.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
