package api

// The words that types of text can have, for the OpenAPI document and those
// who make types of it.

// Words are what an Access can be.
func (Access) Words() []string {
	return words(AccessViewer, AccessDeveloper, AccessOwner)
}

// Words are what a Goal can be.
func (Goal) Words() []string { return words(GoalStarted, GoalStopped) }

// Words are what a State can be.
func (State) Words() []string { return words(States()...) }

// Words are what an InstanceState can be.
func (InstanceState) Words() []string {
	return words(InstanceAsked, InstanceBooting, InstanceReady, InstanceLost, InstanceLeaving)
}

// Words are what an OperationState can be.
func (OperationState) Words() []string {
	return words(OperationPending, OperationRunning, OperationDone, OperationFailed, OperationCancelled)
}

// Words are what a VolumeState can be.
func (VolumeState) Words() []string {
	return words(VolumeAsked, VolumeFree, VolumeAttached, VolumeLeaving, VolumeFailed)
}

// Words are what a BackupState can be.
func (BackupState) Words() []string {
	return words(BackupTaking, BackupReady, BackupBroken)
}

// Words are what a Code can be.
func (Code) Words() []string {
	return words(CodeInvalid, CodeUnauthorized, CodeSecondFactor, CodeForbidden, CodeProof, CodeNotFound, CodeConflict, CodeTooLarge, CodeTooMany,
		CodeQuota, CodeUnavailable, CodeDeadline, CodeCancelled, CodeNoSpace, CodeInternal)
}

func words[T ~string](list ...T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

// Words are the levels of lines; a line that does not say has none.
func (LogLevel) Words() []string { return words(LogDebug, LogInfo, LogWarn, LogError) }
