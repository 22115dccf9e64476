"""What a server may do wrong on request, each thing a switch of its own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Misbehaviour:
    """All off is a server that keeps to RFC 6347. Each field says what the server does when it is on."""

    # Cookies
    no_cookie: bool = False  # goes on with a ClientHello that proves no address
    constant_cookie: bool = False  # has one cookie for everybody, and takes it from anybody
    cookie_ignores_address: bool = False  # takes the cookie that another address was given
    cookie_ignores_hello: bool = False  # takes the cookie of another ClientHello from the same address
    cookie_secret_fixed: bool = False  # knows its cookies again after a restart
    cookie_of_255_bytes: bool = False  # answers a hello with more than three times its size

    # Who may come in
    any_identity: bool = False  # an unknown identity is taken to have the first key
    identity_ends_at_nul: bool = False  # compares identities up to their first NUL byte
    identity_oracle: bool = False  # names an unknown identity in an alert, and a wrong key not
    extra_keys: tuple[bytes, ...] = ()  # these open every identity too: an empty key, a maker's default
    any_key: bool = False  # a Finished that does not open is taken as good
    any_finished: bool = False  # the Finished's content is not looked at

    # What is agreed on
    null_suite: bool = False  # agrees to TLS_PSK_WITH_NULL_SHA256 when nothing better is offered
    cbc_first: bool = False  # prefers CBC to authenticated encryption
    last_suite: bool = False  # takes the last of the client's suites that it knows, CBC among them
    dtls_1_0: bool = False  # agrees to DTLS 1.0
    version_intolerant: bool = False  # refuses a client that could do more than DTLS 1.2
    any_compression: bool = False  # goes on with a client that cannot do without compression
    repeated_extensions: bool = False  # takes an extension that comes twice
    unknown_extensions_refused: bool = False  # fails on an extension that it does not know
    no_extended_master_secret: bool = False  # passes RFC 7627 over
    no_renegotiation_info: bool = False  # passes RFC 5746 over
    size_limits_not_kept: bool = False  # agrees to a maximum fragment length or record size, and keeps to neither
    dtls_1_3_refused: bool = False  # refuses a client that offers DTLS 1.3 beside 1.2

    # Records
    no_replay_window: bool = False  # takes a record again
    replay_window_bits: int = 64  # fewer make the server forget, and drop what is merely late
    forged_record_moves_window: bool = False  # notes a sequence number before it has checked the record
    bad_record_closes: bool = False  # a record that does not open ends the session (not one with a connection id)
    nonces_repeat: bool = False  # seals record after record with the same few nonces (CCM and GCM)
    last_nonce_again_after_sleep: bool = False  # stores a record's number before it sends the record, and not after
    any_version: bool = False  # takes protected records that say DTLS 1.0
    any_epoch: bool = False  # takes data of epochs that were never agreed on
    clear_data_accepted: bool = False  # takes application data without protection
    clear_data_without_session: bool = False  # sends in clear what it has for a client whose session is closed
    clear_alerts_accepted: bool = False  # takes an alert without protection after the handshake
    one_record_per_datagram: bool = False  # drops all protected records but the first
    data_before_finished: bool = False  # takes application data before the client has proved its key

    # Handshake
    fragments_dropped: bool = False  # takes whole messages only
    any_message_seq: bool = False  # takes messages whatever number they have
    no_retransmission: bool = False  # sends its flights once
    fixed_retransmission: bool = False  # does not wait longer each time
    same_record_again: bool = False  # retransmits with the record numbers of the first time
    no_last_flight_again: bool = False  # leaves a client that missed the last flight alone
    half_open_kept: bool = False  # never gives a handshake up
    renegotiates: bool = False  # answers a ClientHello inside a session
    hello_ends_session: bool = False  # an unproved ClientHello ends the live session of its address
    new_hello_ignored: bool = False  # does not answer a client that has started anew

    # Resumption
    never_resumes: bool = False  # hands session ids and tickets out, and honours none
    any_session_resumed: bool = False  # takes an unknown session id or ticket for the newest session's, whoever's
    stale_session_refused: bool = False  # answers an unknown session id or ticket with an alert
    resumes_with_another_suite: bool = False  # resumes a session whose suite the client does not offer
    resumes_without_ems: bool = False  # resumes although the client no longer offers the extended master secret
    week_long_tickets: bool = False  # promises that its tickets live for a week
    resumable_after_fatal_alert: bool = False  # keeps a session that ended in a fatal alert

    # Connection ids
    cid_unasked: bool = False  # sends a connection id to a client that has not asked for any
    cid_unknown_accepted: bool = False  # takes records with any connection id
    cid_moves_unproved: bool = False  # answers where the last record came from, before it has checked the record
    cid_moves_on_older: bool = False  # answers where an authentic record came from, also an old or a repeated one
    cid_never_moves: bool = False  # goes on answering where the handshake was

    # Alerts
    close_notify_ignored: bool = False  # neither answers it nor closes
    warning_closes: bool = False  # any warning ends the session
