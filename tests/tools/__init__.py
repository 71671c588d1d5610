"""What a worker can be given: functions, files, a sandbox, skills."""
