"""Protections against what no storm can reach, or no invariant speaks of."""

from tests.simulation.protections import Protection

_CONTEXT = "orchestrator/phases/context.py"
_LAUNCH = "orchestrator/phases/launch.py"
_PREFLIGHT = "orchestrator/phases/preflight.py"
_COLLECT = "orchestrator/phases/collect.py"
_PUBLISH = "orchestrator/phases/publish.py"
_SURVEY = "orchestrator/phases/survey.py"
_JOURNAL = "orchestrator/journal.py"
_FILES = "orchestrator/files.py"
_NAMES = "orchestrator/names.py"
_PUSHES = "tests/simulation/test_pushes.py::test_"
_SESSIONS = "tests/simulation/test_sessions.py::test_"
_FOREIGN = "tests/simulation/test_foreign.py::test_"
_RECOVERY = "tests/simulation/test_recovery.py::test_"
_CANARIES = "tests/crash/test_canaries.py::test_"
_DAMAGED = "tests/controller/journal/test_damage.py::test_"
_DAMAGE = "tests/crash/test_journal_damage.py::test_a_journal_with_"

APART = [
    Protection(
        "nothing is pushed to a kernel that went public",
        _PREFLIGHT,
        "if info.is_private is False:",
        "if False:",
        _FOREIGN + "a_chain_halts_when_something_of_it_went_public",
    ),
    Protection(
        "no session is pushed beside a dataset that went public",
        _PREFLIGHT,
        "return dataset_is_private(context, info) or info",
        "return info",
        _FOREIGN + "a_chain_halts_when_something_of_it_went_public",
    ),
    Protection(
        "nothing is published to a dataset that went public",
        _PUBLISH,
        "    if stop := preflight.dataset_is_private(context, info):\n        return stop\n    if",
        "    if",
        _FOREIGN + "a_chain_halts_when_something_of_it_went_public",
    ),
    Protection(
        "the output of a session that started without its checkpoint is not looked at",
        _COLLECT,
        "if push.doomed:",
        "if False:",
        _SESSIONS + "a_session_that_started_without_its_input_is_waited_for_and_rejected",
    ),
    Protection(
        "the same failure twice halts the chain",
        _CONTEXT,
        "state.same_failures >= SAME_FAILURES or",
        "",
        _SESSIONS + "a_chain_halts_when_its_sessions_keep_failing_alike",
    ),
    Protection(
        "a loss that is not finite halts the chain",
        _LAUNCH,
        "if state.head and _diverged(",
        "if None and _diverged(",
        _SESSIONS + "a_chain_halts_after_a_loss_that_was_not_finite",
    ),
    Protection(
        "what Kaggle will always refuse halts the chain",
        _CONTEXT,
        "if answer.trouble is Trouble.INVALID:",
        "if False:",
        _PUSHES + "a_push_that_kaggle_will_always_refuse_halts_the_chain",
    ),
    Protection(
        "agreeing reads are a while apart",
        _CONTEXT,
        "if self.certain_since(self.state.absent_age) >= gap or not self.state.absent:",
        "if True:",
        _PUSHES + "a_controller_that_dies_again_and_again_does_not_read_faster",
    ),
    Protection(
        "a chain belongs to one account",
        "orchestrator/phases/account.py",
        "if binding and owner != binding.owner:",
        "if False:",
        _PUSHES + "another_accounts_credential_is_refused",
    ),
    Protection(
        "a recovery passes over the sessions of another chain",
        _SURVEY,
        'if parameters and parameters["chain"] == name:',
        "if parameters:",
        _RECOVERY + "a_session_of_another_chain_at_the_same_address_is_not_taken_for_ours",
        invariants=("I3",),
    ),
    Protection(
        "one controller works on a state folder",
        "orchestrator/cli/workplace.py",
        "        lock.acquire(blocking=False)",
        "        pass",
        "tests/test_recover.py::test_a_state_folder_that_is_locked_already_is_left_alone",
    ),
    Protection(
        "a journal of a newer kchain is refused",
        _JOURNAL,
        "if version == FORMAT:",
        "if version >= FORMAT:",
        _DAMAGED + "what_another_kchain_wrote_is_refused_by_name_and_left_alone",
    ),
    Protection(
        "a journal with an event that was changed is refused",
        _JOURNAL,
        "    if not is_whole:",
        "    if False:",
        _DAMAGED + "a_damaged_journal_is_refused_by_name_and_left_alone",
    ),
    Protection(
        "a journal that lacks an event is refused",
        _JOURNAL,
        "if seq != expected:",
        "if False:",
        _DAMAGED + "a_damaged_journal_is_refused_by_name_and_left_alone",
    ),
    Protection(
        "a journal with an event of another chain is refused",
        _JOURNAL,
        'FROM events ORDER BY chain, seq"\n            rows = self._db.execute(query).fetchall()',
        'FROM events WHERE chain = ? ORDER BY chain, seq"\n'
        "            rows = self._db.execute(query, (self.chain,)).fetchall()",
        _DAMAGE + "any_bit_of_its_last_row_changed_is_refused_or_reads_the_same",
    ),
    Protection(
        "the steady clock of an event is under its checksum",
        _JOURNAL,
        "hashlib.sha256(json.dumps(row, sort_keys=True)",
        'hashlib.sha256(json.dumps((*row[:4], row[4]["data"]), sort_keys=True)',
        _DAMAGED + "a_damaged_journal_is_refused_by_name_and_left_alone",
    ),
    Protection(
        "all of a journal's file is looked at, not only what is read",
        _JOURNAL,
        """if (result := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":""",
        """if (result := "no") != "no":""",
        _DAMAGE + "any_bit_of_a_header_changed_is_refused_or_reads_the_same",
    ),
    Protection(
        "what SQLite cannot even quote is damage like any other",
        _JOURNAL,
        "_TROUBLE = (sqlite3.Error, UnicodeDecodeError, MemoryError)",
        "_TROUBLE = (sqlite3.Error,)",
        "tests/crash/test_journal_damage.py::test_a_journal_whose_schema_was_changed_is_refused",
    ),
    Protection(
        "text that is not UTF-8 is damage like any other",
        _JOURNAL,
        'getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)',
        "error.sqlite_errorcode",
        _DAMAGED + "a_damaged_journal_is_refused_by_name_and_left_alone",
    ),
    Protection(
        "a file of another kind that says nothing of its format is not made a journal",
        _JOURNAL,
        "        elif pages:\n",
        "        elif False:\n",
        _DAMAGED + "a_damaged_journal_is_refused_by_name_and_left_alone",
    ),
    Protection(
        "an event that was acknowledged survives a power cut",
        _JOURNAL,
        "PRAGMA synchronous = EXTRA",
        "PRAGMA synchronous = OFF",
        "tests/crash/test_journal_on_disk.py::"
        "test_the_connection_waits_for_the_disk_and_keeps_a_rollback_journal",
    ),
    Protection(
        "a file is promoted only when its bytes are on the disk",
        _FILES,
        "                self._flush_arrived(source)\n",
        "",
        "tests/crash/test_power_cuts.py::"
        "test_whatever_a_power_cut_leaves_is_whole_and_can_be_gone_on_from",
    ),
    Protection(
        "a file name from outside stays in its folder",
        _NAMES,
        "not _NAME.fullmatch(name)",
        "False",
        "tests/controller/test_files.py::test_a_hostile_name_is_refused_and_nothing_is_written",
    ),
    Protection(
        "no symbolic link is followed where files arrive",
        _NAMES,
        "if os.path.islink(place):",
        "if False:",
        "tests/controller/test_files.py::"
        "test_a_symlink_planted_where_a_file_arrives_is_not_followed",
    ),
    Protection(
        "a pickle may hold only what tensors need",
        "orchestrator/symbols.py",
        "if text not in _NAMES and not _DTYPE.fullmatch(text):",
        "if False:",
        "tests/controller/test_hostile.py::test_it_is_refused_and_says_why",
    ),
    Protection(
        "a notebook with a secret is never sent (I10)",
        "orchestrator/kaggle/api.py",
        "if secret := leaks.find(request.source, self._credential.secrets):",
        "if secret := None:",
        "tests/controller/api/test_credentials.py::test_a_notebook_with_a_secret_is_never_sent",
    ),
    Protection(
        "what the client prints or answers loses the credential in use (I10)",
        "orchestrator/kaggle/child.py",
        '            text = text.replace(secret, "[redacted]")\n',
        "            pass\n",
        "tests/controller/test_worker_secrets.py::test_what_the_client_prints_is_captured_without_secrets",
    ),
    Protection(
        "tokens and the secret parts of addresses are in no message (I10)",
        "orchestrator/leaks.py",
        'text = _ON_THE_WAY.sub(lambda found: (found[1] or found[2] or "") + HIDDEN, text)',
        "pass",
        "tests/controller/test_worker_secrets.py::test_known_secrets_are_blanked_out",
    ),
    Protection(
        "what the client starts is not told the credential (I10)",
        "orchestrator/kaggle/worker.py",
        'contact = _confine(hello["endpoint"])',
        'contact = _confine(hello["endpoint"])\n'
        '    os.environ["KAGGLE_API_TOKEN"] = hello["credential"]["content"]',
        "tests/controller/test_worker.py::test_what_the_client_starts_is_not_told_the_credential",
    ),
    Protection(
        "what killed workers leave is removed by the next start (I10)",
        "orchestrator/cli/workplace.py",
        "shutil.rmtree(homes, ignore_errors=True)",
        "pass",
        _CANARIES + "a_kill_in_the_middle_of_an_upload_leaves_nothing_after_the_next_start",
    ),
    Protection(
        "no text with a secret is kept in the journal (I10)",
        _JOURNAL,
        "kept = _cleaned(data, self._clean) if self._clean else data",
        "kept = data",
        _CANARIES + "what_a_session_says_is_told_without_secrets",
    ),
    Protection(
        "an internal error is told without secrets (I10)",
        "orchestrator/cli/crashes.py",
        "sys.stderr.write(leaks.redact(text, secrets))",
        "sys.stderr.write(text)",
        _CANARIES + "a_crash_tells_no_secret",
    ),
    Protection(
        "a credential that others may read is refused (I10)",
        "orchestrator/kaggle/credentials.py",
        "if others := stat.S_IMODE(facts.st_mode) & 0o077:",
        "if others := 0:",
        "tests/controller/test_credentials.py::"
        "test_a_file_that_others_may_use_is_refused_with_the_way_out",
    ),
    Protection(
        "kernel or dataset that are gone for hours halt the chain",
        _CONTEXT,
        "if self.seconds_since(self.state.wait_until_age) < MISSING_SECONDS:",
        "if True:",
        _FOREIGN + "a_chain_halts_when_something_of_it_is_gone",
    ),
]
