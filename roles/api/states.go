package api

import (
	"fmt"
	"slices"
)

// State is the condition of an application or a service, with ConPaaS's
// names. A state is what was observed, never what was hoped for.
type State string

// The states of an application and of a service.
const (
	Init     State = "INIT"     // created, never started
	Prologue State = "PROLOGUE" // starting
	Running  State = "RUNNING"  // serves as asked
	Adapting State = "ADAPTING" // serves, and is being changed
	Epilogue State = "EPILOGUE" // stopping
	Stopped  State = "STOPPED"  // stopped; settings, code and data are kept
	Failed   State = "ERROR"    // see the reason in the history; retry, stop or delete
)

// moves is the table of what may follow what. Every move is stored with its
// reason and is a compare-and-set.
var moves = map[State][]State{
	Init:     {Prologue, Failed},
	Prologue: {Running, Adapting, Epilogue, Stopped, Failed},
	Running:  {Adapting, Epilogue, Failed},
	Adapting: {Running, Epilogue, Failed},
	Epilogue: {Stopped, Failed},
	Stopped:  {Prologue, Failed},
	Failed:   {Prologue, Running, Adapting, Epilogue, Stopped},
}

// To returns next if s may move there, else an error of code Conflict.
func (s State) To(next State) (State, error) {
	if slices.Contains(moves[s], next) {
		return next, nil
	}
	return s, &Error{Code: CodeConflict, Op: "change state", Message: fmt.Sprintf("%s cannot become %s", s, next)}
}

// Passing reports whether s is a state that something must leave by itself.
func (s State) Passing() bool { return s == Prologue || s == Adapting || s == Epilogue }

// States lists all states in the order of a life.
func States() []State {
	return []State{Init, Prologue, Running, Adapting, Epilogue, Stopped, Failed}
}

// InstanceState is the condition of one instance.
type InstanceState string

// The states of an instance.
const (
	InstanceAsked   InstanceState = "asked"   // stored, before the cloud was asked
	InstanceBooting InstanceState = "booting" // the cloud gave it, its agent has not enrolled yet
	InstanceReady   InstanceState = "ready"   // its agent or manager answers
	InstanceLost    InstanceState = "lost"    // stopped answering; it is replaced
	InstanceLeaving InstanceState = "leaving" // being drained and terminated
)

// OperationState is the condition of an operation.
type OperationState string

// The states of an operation.
const (
	OperationPending   OperationState = "pending"
	OperationRunning   OperationState = "running"
	OperationDone      OperationState = "done"
	OperationFailed    OperationState = "failed"    // and what it had changed was undone as far as Undone says
	OperationCancelled OperationState = "cancelled" // by the user, between two steps, and undone
)

// Final reports whether the operation will not change any more.
func (s OperationState) Final() bool {
	return s == OperationDone || s == OperationFailed || s == OperationCancelled
}
