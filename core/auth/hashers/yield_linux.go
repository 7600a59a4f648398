package hashers

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// lowest is the nice value of what gets what is left.
const lowest = 19

// yield gives this process the lowest priority. On Linux that is a thread's: those
// that there are, and by inheritance those to come. What fails is left as it is.
func yield() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, lowest)
		}
	}
}

// apart keeps the signals of a terminal from the process: it ends with its node,
// which drains first.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// Self is the program that runs, even if its file was replaced meanwhile.
func Self() (string, error) { return "/proc/self/exe", nil }
