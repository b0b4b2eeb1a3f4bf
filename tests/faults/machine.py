"""Faults of the machine that the controller runs on, of its account, and of other people."""

from tests.faults.row import CRASH, Row

DISK = "test_whichever_operation_fails_the_chain_goes_on_when_the_disk_is_well"

MACHINE = (
    Row(
        "killed at any instant",
        "the journal tells where to go on; nothing is sent twice",
        (CRASH,),
        (
            "test_a_controller_killed_at_any_instant_starts_nothing_twice",
            "test_a_crash_at_any_effect_changes_nothing_about_the_ending",
            "test_a_crash_at_any_effect_of_a_storm_changes_nothing_about_the_ending",
        ),
    ),
    Row(
        "killed while it deals with having been killed",
        "the same, however often",
        (CRASH,),
        (
            "test_a_crash_during_recovery_from_a_crash_changes_nothing_either",
            "test_all_double_crashes_of_a_clean_chain_change_nothing",
            "test_a_crash_at_any_effect_of_a_recovery_changes_nothing",
        ),
    ),
    Row(
        "power fails: what was not flushed is gone, the last write torn",
        "every event that was acknowledged is there",
        (),
        ("test_whatever_a_power_cut_leaves_of_a_transaction_the_events_before_are_there",),
    ),
    Row(
        "power fails: a name without its content, or the reverse",
        "contents are flushed before names: a name that is there has its content",
        (),
        ("test_whatever_a_power_cut_leaves_is_whole_and_can_be_gone_on_from",),
    ),
    Row(
        "no room, a disk error, a quota of the disk, a read-only disk",
        "stops with nothing half done, and goes on when the disk is well",
        (),
        (DISK, "test_on_a_full_disk_the_chain_waits_or_stops_and_goes_on_when_there_is_room"),
    ),
    Row(
        "a flush fails once",
        "the file is thrown away: the next flush would succeed without having written it",
        (),
        ("test_a_flush_that_failed_once_is_not_believed_the_next_time",),
    ),
    Row(
        "a page of the journal is damaged",
        "refused by name and left as it is; `recover` rebuilds it",
        (),
        ("test_the_command_refuses_a_journal_with_a_damaged_page_and_keeps_it",),
    ),
    Row(
        "the state folder comes from an older backup",
        "goes on from what Kaggle holds if that descends from its head, else halts; no fork",
        (),
        (
            "test_a_backup_of_any_event_goes_on_from_where_the_chain_is",
            "test_a_folder_from_an_older_backup_goes_on_from_where_the_chain_is",
            "test_the_folder_of_another_lineage_is_not_taken_for_the_chains",
            "test_an_older_journal_that_was_restored_adopts_what_was_published_since",
        ),
    ),
    Row(
        "two ticks at once on one machine",
        "the second ends with code 3 and does nothing",
        (),
        ("test_of_two_ticks_at_once_the_second_says_so_and_does_nothing",),
    ),
    Row(
        "two machines drive one chain",
        "of one journal, only one can write; of two, the one that finds the other's versions twice"
        " halts, and leaves it the first move before",
        ("pushed by hand",),
        (
            "test_of_two_controllers_the_second_to_append_is_refused",
            "test_of_two_controllers_with_a_journal_each_one_halts_and_no_session_runs_twice",
            "test_a_chain_halts_where_somebody_else_pushed_and_goes_on_when_told_to",
        ),
    ),
    Row(
        "the wall clock is set, a day back or a year ahead",
        "elapsed time is counted by a clock that nobody sets: the same events",
        ("clock set",),
        ("test_a_clock_that_is_set_changes_no_event_and_no_age",),
    ),
    Row(
        "the machine starts anew, with a wall clock that is wrong",
        "only what the new start's own clock has counted permits another push or publication",
        ("rebooted",),
        (
            "test_a_machine_that_starts_anew_with_a_wrong_clock_does_not_shorten_a_wait",
            "test_a_machine_that_starts_anew_every_hour_gets_on",
        ),
    ),
    Row(
        "summer time begins or ends, any zone",
        "all times are UTC: the same events",
        (),
        (
            "test_a_chain_writes_the_same_events_in_every_zone",
            "test_in_every_zone_a_run_shows_its_time_and_writes_the_same",
            "test_local_time_is_only_for_showing",
        ),
    ),
    Row(
        "the laptop sleeps for eight hours, in a phase or in a call",
        "what was sent is read back, what was read is read again",
        ("suspended",),
        (
            "test_a_laptop_that_sleeps_eight_hours_in_a_phase_tells_the_same_story",
            "test_a_laptop_that_sleeps_eight_hours_in_a_call_reads_before_it_acts",
            "test_a_machine_that_sleeps_wakes_up_to_a_chain_that_goes_on",
        ),
    ),
    Row(
        "the credential is revoked, expired, or another account's",
        "nothing is changed, and nothing is taken for absent",
        (),
        (
            "test_a_credential_that_is_revoked_is_never_taken_for_absence",
            "test_nothing_is_read_or_sent_before_it_is_known_whose_account_it_is",
            "test_another_accounts_credential_is_refused",
        ),
    ),
    Row(
        "one call is answered with 401",
        "the client, which deletes credential files then, has none: the user's own is intact",
        (),
        ("test_c7_a_401_deletes_no_credential",),
    ),
    Row(
        "another version of the client, or one that does not start",
        "each version is tried; a worker that dies is an answer: try later",
        (),
        (
            "test_each_version_of_the_client_is_the_one_that_its_process_gets",
            "test_a_worker_that_dies_at_once_is_an_answer_not_an_exception",
        ),
    ),
    Row(
        "a field or a status that the client does not know",
        "unreadable, or unknown if it was a mutation",
        ("odd answer to a read",),
        (
            "test_a_read_with_an_odd_field_is_unreadable",
            "test_an_answer_to_a_push_with_an_odd_field_is_unknown",
        ),
    ),
    Row(
        "the journal was written by a newer kchain",
        "refused by name and left alone",
        (),
        ("test_what_another_kchain_wrote_is_refused_by_name_and_left_alone",),
    ),
    Row(
        "no memory, no process, no file handle",
        "says so, loses nothing, goes on later",
        (),
        (
            "test_with_too_few_open_files_a_tick_says_so",
            "test_a_machine_that_starts_no_process_or_thread_costs_nothing_but_time",
            "test_a_worker_that_was_killed_from_outside_is_started_again",
        ),
    ),
    Row(
        "the terminal goes away, the output is closed, a signal comes",
        "ends tidily in any phase, and the same command goes on",
        (),
        (
            "test_a_signal_ends_a_run_tidily_in_any_phase_and_it_goes_on",
            "test_a_run_whose_reader_goes_away_ends_as_not_finished",
        ),
    ),
    Row(
        "somebody runs a notebook of their own on the same account",
        "it takes room, and is never touched",
        ("pushed by hand", "refused: capacity"),
        ("test_a_push_waits_until_others_leave_room_for_a_session",),
    ),
)
