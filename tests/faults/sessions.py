"""Faults of sessions, of the files that they leave, and of the versions made of these."""

from tests.faults.row import ONE_FAULT, Row

REFUSED_SET = "test_it_is_refused_and_says_why"

SESSIONS = (
    Row(
        "queued for hours",
        "waits; the limit counts from the start",
        ("queue_long",),
        (f"{ONE_FAULT}[session queued for hours]",),
    ),
    Row(
        "it fails at once, and again",
        "tried again; the same failure twice halts the chain",
        ("session dies at once",),
        ("test_a_chain_halts_when_its_sessions_keep_failing_alike",),
    ),
    Row(
        "killed at its limit",
        "its newest checkpoint counts",
        ("session is killed at its limit",),
        ("test_a_session_cut_off_at_its_limit_still_counts",),
    ),
    Row(
        "called running long after its limit",
        "doomed after the limit and a grace, given up after as much again",
        ("wedge",),
        ("test_a_session_that_never_ends_is_given_up_after_its_limit_and_grace",),
        "it cannot be stopped",
    ),
    Row(
        "its status cannot be read any more",
        "asked for until a day after it must have ended, then halts; nothing is pushed beside it",
        ("read fails",),
        ("test_a_status_that_cannot_be_read_for_a_day_after_the_limit_halts_the_chain",),
    ),
    Row(
        "stopped by somebody, or called so",
        "what it left is looked at all the same",
        ("cancel", "report_cancelled", "session is cancelled"),
        ("test_a_session_that_brings_nothing_is_tried_again",),
    ),
    Row(
        "its files are listed one after the other",
        "nothing is decided before two equal lists some time apart",
        ("nothing listed",),
        (
            "test_outputs_that_take_minutes_to_appear_are_waited_for",
            "test_a_verdict_that_appears_after_the_manifest_is_waited_for",
        ),
    ),
    Row(
        "it leaves nothing",
        "a fruitless attempt, after the settle window",
        (
            "session saves nothing",
            "lose_outputs",
            "vanish",
            "session runs out of memory",
            "out_of_memory",
        ),
        ("test_a_session_that_brings_nothing_is_tried_again",),
    ),
    Row(
        "it runs without the accelerator that was asked for",
        "it says so and ends within two minutes: a fruitless attempt",
        ("no_accelerator",),
        ("test_gpus_that_are_not_there_are_refused",),
    ),
    Row(
        "an older version of the dataset is mounted",
        "the session does not find its parent and ends: a fruitless attempt",
        ("old_mounts", "session mounts an old version"),
        ("test_an_older_version_of_the_dataset_is_refused",),
    ),
    Row(
        "the newest version of the dataset is unusable",
        "superseded before anything is pushed",
        ("lose_file", "fail_processing"),
        ("test_a_newest_version_that_is_unusable_is_superseded",),
    ),
    Row(
        "it makes no step, or its loss is not finite",
        "not accepted; a loss that is not finite halts the chain behind its last good checkpoint",
        ("session makes no step",),
        ("test_a_chain_halts_after_a_loss_that_was_not_finite",),
    ),
    Row(
        "its files carry another session's token, or name another parent",
        "not accepted",
        ("session names no parent",),
        ("test_a_manifest_of_another_attempt_is_refused_even_if_all_else_is_well",),
    ),
)

FILES = (
    Row(
        "a download ends too early",
        "gone on with or fetched anew; the hash decides",
        ("garbled download",),
        ("test_a_connection_that_breaks_is_taken_up_at_the_next_byte",),
    ),
    Row(
        "a bit of a download is flipped",
        "fetched anew, three times; then an older checkpoint",
        ("garbled download",),
        ("test_a_checkpoint_that_arrives_spoilt_is_replaced_by_an_older_one",),
    ),
    Row(
        "an error's text instead of the file",
        "no file, whatever its length",
        ("garbled download",),
        ("test_an_error_is_unreadable_and_its_body_is_no_file",),
    ),
    Row(
        "the address expires",
        "listed anew for each file",
        ("download fails",),
        (
            "test_c41_a_list_that_breaks_off_is_no_shorter_list_and_an_aged_url_is_listed_anew",
            "test_a_url_that_expired_or_names_nothing_is_gone",
        ),
    ),
    Row(
        "a file stays listed, and its download says that it is not there",
        "listed anew and asked for three times over six hours; then it counts as damaged:"
        " an older checkpoint, no verdict, or a fruitless attempt",
        ("file stays gone",),
        (
            "test_a_checkpoint_that_stays_gone_is_replaced_by_an_older_one",
            "test_a_session_all_of_whose_checkpoints_stay_gone_is_tried_again",
            "test_a_verdict_that_stays_gone_is_none",
            "test_a_manifest_that_stays_gone_means_that_there_is_no_output",
        ),
    ),
    Row(
        "the file is another one when its download goes on",
        "the hash is wrong, and it is fetched from its first byte",
        (),
        ("test_a_file_that_changed_while_its_download_was_broken_off_is_fetched_anew",),
    ),
    Row(
        "two files of one name, or of names that some disks take for one",
        "the manifest is refused",
        (),
        ("test_a_name_that_is_listed_twice_is_refused", REFUSED_SET),
    ),
    Row(
        "names that lead elsewhere or mean something to a system",
        "refused, and nothing is written",
        (),
        ("test_a_hostile_name_is_refused_and_nothing_is_written",),
    ),
    Row(
        "ten thousand files, or one without end",
        "only what the manifest lists is fetched, and not a byte more than it says",
        (),
        (
            "test_ten_thousand_other_outputs_change_nothing",
            "test_more_than_is_allowed_is_not_even_begun",
            "test_an_unannounced_flood_ends_at_the_limit",
        ),
    ),
    Row(
        "a link lies where a file will arrive",
        "not followed",
        (),
        ("test_a_symlink_planted_where_a_file_arrives_is_not_followed",),
    ),
    Row(
        "a manifest that is missing, cut, or breaks its schema",
        "refused with the reason; an attempt without a manifest is fruitless",
        ("garbled download", "session saves nothing"),
        ("test_what_is_not_strict_json_is_refused", REFUSED_SET),
    ),
    Row(
        "the manifest is right, and tensors are missing, others, or not finite",
        "an archive's members must be those listed, its weights and moments finite and of the"
        " head's names, types and shapes; else an older checkpoint, or a fruitless attempt",
        (),
        (
            "test_an_archive_with_other_members_is_refused",
            REFUSED_SET,
            "test_a_checkpoint_that_is_not_finite_is_replaced_by_an_older_one",
            "test_a_checkpoint_with_other_shapes_than_the_heads_is_not_taken",
        ),
    ),
    Row(
        "a checkpoint that would run code, or swells when opened",
        "nothing is unpickled or unpacked; opcodes, sizes and checksums are looked at",
        (),
        ("test_verification_never_unpickles", REFUSED_SET),
    ),
)

PUBLICATIONS = (
    Row(
        "one file's upload is answered with an error",
        "the publication ends before it is sent, and begins anew",
        ("refused: no connection",),
        ("test_a_file_that_does_not_arrive_ends_the_publication_before_it_is_sent",),
    ),
    Row(
        "an upload breaks off, and cannot be taken up",
        "the same: nothing is gone on with",
        (),
        (
            "test_c48_a_file_that_did_not_arrive_ends_the_publication",
            "test_c51_nothing_is_taken_up_again_though_it_cannot_be_switched_off",
        ),
    ),
    Row(
        "an upload breaks off, and the next file has its size and time",
        "each attempt stages and uploads anew; the bytes are never mixed",
        (),
        (
            "test_an_upload_that_broke_off_is_not_continued_with_another_files_bytes",
            "test_c49_an_upload_that_broke_off_is_not_gone_on_with",
        ),
    ),
    Row(
        "a version lacks files",
        "seen when it is read back; published again",
        ("lose_file", "lose_all_files"),
        ("test_a_first_version_that_is_incomplete_is_superseded",),
    ),
    Row(
        "the copy on this disk is damaged or gone before it is published",
        "verified again before it leaves; fetched anew, or halts if it is nowhere else",
        (),
        (
            "test_a_copy_that_is_damaged_before_it_is_published_is_fetched_anew",
            "test_a_damaged_copy_that_cannot_be_fetched_halts_the_chain_until_it_is_restored",
        ),
    ),
    Row(
        "a version is processed for hours, or fails",
        "waited for six hours, then published again",
        ("stick_processing", "fail_processing"),
        (
            "test_a_version_that_is_processed_for_hours_is_waited_for",
            "test_a_version_that_kaggle_failed_to_process_is_published_again",
        ),
    ),
    Row(
        "refused while the version before is processed",
        "waits",
        ("refused: busy",),
        (f"{ONE_FAULT}[publication refused while another is processed]",),
    ),
    Row(
        "Kaggle unpacks or renames a file",
        "a checkpoint unpacked member by member counts; anything else is published again",
        (),
        (
            "test_a_checkpoint_that_kaggle_unpacked_counts_as_published",
            "test_a_chain_halts_when_publications_keep_failing_and_goes_on_when_told_to",
        ),
    ),
    Row(
        "the dataset is deleted, made public, or another's",
        "halts; an answer about another's dataset or another name is none",
        ("dataset made public",),
        (
            "test_a_chain_halts_when_something_of_it_went_public",
            "test_nothing_is_uploaded_into_a_dataset_that_was_made_public_since_the_intent",
            "test_a_chain_halts_when_something_of_it_is_gone",
            "test_an_answer_about_something_else_is_not_taken_for_ours",
        ),
    ),
    Row(
        "a newer version that this journal does not know",
        "adopted if it holds what is pending or continues the head, else halts",
        ("published by hand",),
        (
            "test_an_older_journal_that_was_restored_adopts_what_was_published_since",
            "test_a_chain_halts_at_a_foreign_dataset_version_until_the_head_is_the_newest",
        ),
    ),
    Row(
        "the account's storage is full",
        "waits and tries again; nothing is deleted to make room",
        (),
        ("test_a_publication_waits_until_there_is_storage_again",),
    ),
)

# What the storms have besides.
BESIDES = (
    Row(
        "the output of a session that ended stays gone",
        "halts after six hours; if it is still gone after --retry, the attempt is fruitless",
        (),
        (
            "test_a_chain_halts_when_an_output_stays_gone_and_goes_on_when_it_is_back",
            "test_an_output_that_is_still_gone_when_a_person_has_looked_costs_its_session",
        ),
    ),
    Row(
        "one version of kernel or dataset stays unreadable",
        "halts after six hours; if it still is after --retry, it counts as somebody else's, or one"
        " of ours is published again",
        (),
        (
            "test_a_version_before_ours_that_stays_unreadable_halts_the_chain_and_is_left_behind",
            "test_a_version_of_ours_that_stays_unreadable_halts_the_chain_and_is_published_again",
            "test_a_kernel_version_that_stays_unreadable_halts_the_chain_and_is_not_pushed_over",
        ),
    ),
    Row(
        "the owner deletes dataset or kernel and makes it anew",
        "halts after six hours of smaller version numbers; nothing is published or pushed there"
        " before --retry",
        (),
        (
            "test_a_dataset_that_was_made_anew_is_published_to_only_when_told_to",
            "test_a_dataset_that_was_made_anew_is_mounted_when_it_holds_the_head",
            "test_a_kernel_that_was_made_anew_halts_the_chain",
        ),
    ),
    Row(
        "kchain is killed, again and again, just before a publication leaves",
        "waits until nothing can land, and publishes again; halts after as many as are allowed",
        (),
        ("test_kills_before_a_publication_leaves_are_no_version_that_holds_something_else",),
    ),
    Row(
        "a session ends in an error after its last checkpoint",
        "the checkpoint counts: the session's own word outranks Kaggle's",
        ("session raises at its end",),
        ("test_a_session_that_ends_in_an_error_after_its_checkpoint_still_counts",),
    ),
    Row(
        "a session's log is lost",
        "nothing is decided by a log",
        ("lose_log",),
    ),
)
