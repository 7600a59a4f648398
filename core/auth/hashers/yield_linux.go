package hashers

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// lower is by how much the nice value is above the node's: next to the node a hash
// gets a tenth of what it would, so it goes on in the time that is left. The lowest
// priority of all would be below that of whatever else a machine does at its
// leisure, and nobody would sign in meanwhile.
const lower = 10

// yield gives this process a lower priority than its node has, which started it. On
// Linux that is a thread's: those that there are, and by inheritance those to come.
// What fails is left as it is.
func yield() {
	have, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return
	}
	nice := 20 - have + lower // the system call tells 20 less the nice value; above 19 is 19
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, nice)
		}
	}
}

// apart keeps the signals of a terminal from the process: it ends with its node,
// which drains first.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// Self is the program that runs, even if its file was replaced meanwhile.
func Self() (string, error) { return "/proc/self/exe", nil }
