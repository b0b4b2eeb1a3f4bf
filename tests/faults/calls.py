"""Faults of calls: what is between the controller and Kaggle, and what Kaggle answers."""

from tests.faults.row import ONE_FAULT, Row

LOST = "answer lost"
NO_EFFECT = "odd answer without effect"
UNHEARD = ("read fails", "refused: no connection")

WIRE = (
    Row(
        "the name does not resolve, there is no route, nobody listens",
        "nothing was sent: refused or unreadable, asked again later, the intent is dropped",
        UNHEARD,
        ("test_where_nobody_listens_nothing_was_sent",),
    ),
    Row(
        "the connection breaks before Kaggle has the request",
        "unknown, settled by reading back; sent again under a new token, never twice",
        ("request lost",),
        ("test_c19_a_mutation_whose_connection_broke_is_sent_once",),
    ),
    Row(
        "the connection breaks after a push took effect",
        "the version that carries the token is adopted",
        (LOST,),
        (
            "test_a_push_whose_answer_was_lost_is_adopted",
            "test_a_lost_answer_is_found_on_kaggle_again",
        ),
    ),
    Row(
        "the connection breaks after a publication took effect",
        "the version that carries the token is adopted; there is no second one",
        (LOST,),
        ("test_c57_a_version_whose_answer_was_lost_is_asked_for_once",),
    ),
    Row(
        "a server error, without effect",
        "unknown; after the settle window and three agreeing reads sent again, newly marked",
        (NO_EFFECT,),
        ("test_a_push_that_brings_nonsense_is_unknown_and_was_sent_once",),
    ),
    Row(
        "a server error, although it took effect",
        "unknown, then adopted: the status of an answer proves nothing",
        (LOST,),
        ("test_a_version_that_brings_nonsense_is_unknown_and_was_sent_once",),
    ),
    Row(
        "too many requests, with any wait or none named",
        "refused; waits as asked, never longer than a cap, and has written down until when",
        ("refused: too many requests",),
        (
            "test_a_retry_after_is_read_and_capped_and_never_believed_blindly",
            "test_a_push_waits_as_long_as_kaggle_asks",
        ),
    ),
    Row(
        "a refusal that comes as a web page",
        "the status decides, the page is not read",
        (),
        ("test_c17_a_web_page_is_never_an_answer",),
    ),
    Row(
        "accepted and never answered",
        "the worker is killed at the call's deadline: unreadable, or unknown if it was sent",
        ("read stalls",),
        (
            "test_a_push_that_hangs_after_it_was_sent_is_unknown",
            "test_a_call_that_hangs_is_killed_at_its_deadline_and_the_next_one_works",
        ),
    ),
    Row(
        "an answer that comes byte by byte without end",
        "given up at the deadline, which counts the whole call",
        (),
        (
            "test_c15_a_server_that_never_ends_its_answer_is_given_up",
            "test_a_slow_drip_ends_although_every_byte_is_in_time",
        ),
    ),
    Row(
        "TLS that fails: no TLS at all, a certificate of nobody known",
        "nothing is sent or read, and nothing switches the check off",
        (),
        ("test_a_server_that_cannot_prove_who_it_is_gets_nothing",),
    ),
    Row(
        "the network's sign-in page, with status 200",
        "no answer, whatever its status says; nothing is sent, as the last look brings none",
        (),
        (
            "test_a_read_that_brings_nonsense_is_unreadable",
            "test_c17_a_web_page_is_never_an_answer",
        ),
    ),
    Row(
        "status 200 with nothing, a list, or an error inside",
        "unreadable; unknown if it was a mutation",
        ("odd answer to a read", NO_EFFECT),
        ("test_a_read_that_brings_nonsense_is_unreadable",),
    ),
    Row(
        "a status that nobody knows, or none",
        "unreadable: never the end of a session; `status` shows what is waited for",
        ("odd answer to a read",),
        ("test_a_status_that_is_no_status_is_unreadable",),
    ),
    Row(
        "a version header that breaks the client after the effect",
        "unknown, then adopted",
        (LOST,),
        ("test_c18_an_odd_version_header_leaves_it_open_what_landed",),
    ),
)

READS = (
    Row(
        "the status is that of the version before",
        "every read names its version, and outputs are known by their token",
        (),
        (
            "test_c31_every_read_names_its_version",
            "test_the_output_of_another_session_is_not_taken_for_the_one_that_was_asked_for",
        ),
    ),
    Row(
        "what was done is seen late, within the settle window",
        "waited for: a timer permits another attempt, it proves nothing",
        (),
        ("test_what_becomes_visible_late_is_waited_for",),
    ),
    Row(
        "what was done is seen after it was given up",
        "adopted if it continues the head, else reported and waited for; one checkpoint is accepted",
        ("hide_version",),
        (
            "test_a_push_that_lands_late_and_still_continues_the_head_is_adopted",
            "test_a_push_that_landed_late_is_waited_for_before_the_next_one",
            "test_a_push_that_lands_after_it_was_given_up_costs_one_session_and_no_commit",
            "test_late_landings_waste_sessions_and_never_break_the_line_of_heads",
        ),
        "neither of the two sessions can be stopped: Kaggle stops none by its API",
    ),
    Row(
        "reads answer new and old in turn",
        "three reads in a row must agree; a smaller version number is an old answer",
        (),
        (
            "test_reads_that_disagree_do_not_add_up_to_an_absence",
            "test_a_read_that_is_behind_is_no_reason_to_halt",
        ),
    ),
)

PUSHES = (
    Row(
        "refused: too many sessions at once",
        "waits, and counts no failure",
        ("refused: capacity",),
        ("test_a_push_waits_until_others_leave_room_for_a_session",),
    ),
    Row(
        "refused: the week's quota is used up",
        "waits until the quota refreshes",
        ("refused: quota",),
        ("test_a_chain_waits_for_the_week_in_which_there_is_quota_again",),
    ),
    Row(
        "the quota cannot be read",
        "no push until it can",
        ("read fails",),
        (f"{ONE_FAULT}[quota unreadable]",),
    ),
    Row(
        "less quota than a session needs to bring anything",
        "no push before next week",
        (),
        ("test_a_session_is_as_long_as_budget_and_quota_allow_or_not_at_all",),
    ),
    Row(
        "the quota is used by others while a push waits",
        "the push is withdrawn, and planned anew for what is left",
        (),
        ("test_a_push_that_waited_while_the_quota_shrank_asks_for_no_more_than_is_left",),
    ),
    Row(
        "pushed, and the dataset is called invalid",
        "the session is watched to its end, and nothing of it is accepted",
        ("drop_sources",),
        ("test_a_session_that_started_without_its_input_is_waited_for_and_rejected",),
        "it cannot be stopped",
    ),
    Row(
        "pushed, and saved under another name",
        "halts: what runs there cannot be watched; told to go on, it pushes nothing beside it",
        ("land_elsewhere",),
        (
            "test_a_push_that_was_saved_elsewhere_halts_the_chain",
            "test_nothing_is_pushed_while_a_session_may_run_at_another_address",
        ),
        "it cannot be stopped, and if its answer is lost as well nobody knows of it",
    ),
    Row(
        "somebody pushes between the last look and the push",
        "noticed at once: halts, and told to go on it watches its own session",
        (),
        (
            "test_somebody_who_pushes_between_the_last_look_and_ours_is_noticed",
            "test_a_push_of_ours_that_slips_in_late_is_written_down_and_halts_nothing",
        ),
    ),
    Row(
        "pushes or publications never become visible",
        "halts after as many in a row as attempts are allowed",
        ("request lost",),
        (
            "test_pushes_that_never_become_visible_are_not_repeated_without_end",
            "test_publications_that_never_become_visible_are_not_repeated_without_end",
        ),
    ),
)
