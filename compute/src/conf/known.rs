//! Names of the settings that Postgres 14 to 18 take from files, from `pg_settings` of each.

use neon_postgres::PgVersion;

/// Those of every version.
const ALWAYS: &str = "\
    allow_in_place_tablespaces allow_system_table_mods application_name archive_cleanup_command \
    archive_command archive_mode archive_timeout array_nulls authentication_timeout autovacuum \
    autovacuum_analyze_scale_factor autovacuum_analyze_threshold autovacuum_freeze_max_age \
    autovacuum_max_workers autovacuum_multixact_freeze_max_age autovacuum_naptime \
    autovacuum_vacuum_cost_delay autovacuum_vacuum_cost_limit autovacuum_vacuum_insert_scale_factor \
    autovacuum_vacuum_insert_threshold autovacuum_vacuum_scale_factor autovacuum_vacuum_threshold \
    autovacuum_work_mem backend_flush_after backslash_quote backtrace_functions bgwriter_delay \
    bgwriter_flush_after bgwriter_lru_maxpages bgwriter_lru_multiplier bonjour bonjour_name bytea_output \
    check_function_bodies checkpoint_completion_target checkpoint_flush_after checkpoint_timeout \
    checkpoint_warning client_connection_check_interval client_encoding client_min_messages cluster_name \
    commit_delay commit_siblings compute_query_id constraint_exclusion cpu_index_tuple_cost \
    cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction data_directory data_sync_retry datestyle \
    deadlock_timeout debug_discard_caches debug_pretty_print debug_print_parse debug_print_plan \
    debug_print_rewritten default_statistics_target default_table_access_method default_tablespace \
    default_text_search_config default_toast_compression default_transaction_deferrable \
    default_transaction_isolation default_transaction_read_only dynamic_library_path \
    dynamic_shared_memory_type effective_cache_size effective_io_concurrency enable_async_append \
    enable_bitmapscan enable_gathermerge enable_hashagg enable_hashjoin enable_incremental_sort \
    enable_indexonlyscan enable_indexscan enable_material enable_memoize enable_mergejoin enable_nestloop \
    enable_parallel_append enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate \
    enable_partitionwise_join enable_seqscan enable_sort enable_tidscan escape_string_warning event_source \
    exit_on_error external_pid_file extra_float_digits from_collapse_limit fsync full_page_writes geqo \
    geqo_effort geqo_generations geqo_pool_size geqo_seed geqo_selection_bias geqo_threshold \
    gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier hba_file hot_standby \
    hot_standby_feedback huge_page_size huge_pages ident_file idle_in_transaction_session_timeout \
    idle_session_timeout ignore_checksum_failure ignore_invalid_pages ignore_system_indexes intervalstyle \
    jit jit_above_cost jit_debugging_support jit_dump_bitcode jit_expressions jit_inline_above_cost \
    jit_optimize_above_cost jit_profiling_support jit_provider jit_tuple_deforming join_collapse_limit \
    krb_caseins_users krb_server_keyfile lc_messages lc_monetary lc_numeric lc_time listen_addresses \
    lo_compat_privileges local_preload_libraries lock_timeout log_autovacuum_min_duration log_checkpoints \
    log_connections log_destination log_directory log_disconnections log_duration log_error_verbosity \
    log_executor_stats log_file_mode log_filename log_hostname log_line_prefix log_lock_waits \
    log_min_duration_sample log_min_duration_statement log_min_error_statement log_min_messages \
    log_parameter_max_length log_parameter_max_length_on_error log_parser_stats log_planner_stats \
    log_recovery_conflict_waits log_replication_commands log_rotation_age log_rotation_size log_statement \
    log_statement_sample_rate log_statement_stats log_temp_files log_timezone log_transaction_sample_rate \
    log_truncate_on_rotation logging_collector logical_decoding_work_mem maintenance_io_concurrency \
    maintenance_work_mem max_connections max_files_per_process max_locks_per_transaction \
    max_logical_replication_workers max_parallel_maintenance_workers max_parallel_workers \
    max_parallel_workers_per_gather max_pred_locks_per_page max_pred_locks_per_relation \
    max_pred_locks_per_transaction max_prepared_transactions max_replication_slots max_slot_wal_keep_size \
    max_stack_depth max_standby_archive_delay max_standby_streaming_delay max_sync_workers_per_subscription \
    max_wal_senders max_wal_size max_worker_processes min_dynamic_shared_memory min_parallel_index_scan_size \
    min_parallel_table_scan_size min_wal_size parallel_leader_participation parallel_setup_cost \
    parallel_tuple_cost password_encryption plan_cache_mode port post_auth_delay pre_auth_delay \
    primary_conninfo primary_slot_name quote_all_identifiers random_page_cost recovery_end_command \
    recovery_init_sync_method recovery_min_apply_delay recovery_target recovery_target_action \
    recovery_target_inclusive recovery_target_lsn recovery_target_name recovery_target_time \
    recovery_target_timeline recovery_target_xid remove_temp_files_after_crash restart_after_crash \
    restore_command restrict_nonsystem_relation_kind row_security search_path seq_page_cost \
    session_preload_libraries session_replication_role shared_buffers shared_memory_type \
    shared_preload_libraries ssl ssl_ca_file ssl_cert_file ssl_ciphers ssl_crl_dir ssl_crl_file \
    ssl_dh_params_file ssl_key_file ssl_max_protocol_version ssl_min_protocol_version ssl_passphrase_command \
    ssl_passphrase_command_supports_reload ssl_prefer_server_ciphers standard_conforming_strings \
    statement_timeout superuser_reserved_connections synchronize_seqscans synchronous_commit \
    synchronous_standby_names syslog_facility syslog_ident syslog_sequence_numbers syslog_split_messages \
    tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout temp_buffers \
    temp_file_limit temp_tablespaces timezone timezone_abbreviations trace_notify trace_sort \
    track_activities track_activity_query_size track_commit_timestamp track_counts track_functions \
    track_io_timing track_wal_io_timing transform_null_equals unix_socket_directories unix_socket_group \
    unix_socket_permissions update_process_title vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty \
    vacuum_cost_page_hit vacuum_cost_page_miss vacuum_failsafe_age vacuum_freeze_min_age \
    vacuum_freeze_table_age vacuum_multixact_failsafe_age vacuum_multixact_freeze_min_age \
    vacuum_multixact_freeze_table_age wal_buffers wal_compression wal_consistency_checking wal_init_zero \
    wal_keep_size wal_level wal_log_hints wal_receiver_create_temp_slot wal_receiver_status_interval \
    wal_receiver_timeout wal_recycle wal_retrieve_retry_interval wal_sender_timeout wal_skip_threshold \
    wal_sync_method wal_writer_delay wal_writer_flush_after work_mem xmlbinary xmloption zero_damaged_pages";

/// Those that came or went: name, first version, last version.
const SOME: [(&str, u16, u16); 67] = [
    ("allow_alter_system", 17, 99),
    ("archive_library", 15, 99),
    ("autovacuum_vacuum_max_threshold", 18, 99),
    ("autovacuum_worker_slots", 18, 99),
    ("commit_timestamp_buffers", 17, 99),
    ("createrole_self_grant", 16, 99),
    ("db_user_namespace", 14, 16),
    ("debug_io_direct", 16, 99),
    ("debug_logical_replication_streaming", 16, 99),
    ("debug_parallel_query", 16, 99),
    ("enable_distinct_reordering", 18, 99),
    ("enable_group_by_reordering", 17, 99),
    ("enable_presorted_aggregate", 16, 99),
    ("enable_self_join_elimination", 18, 99),
    ("event_triggers", 17, 99),
    ("extension_control_path", 18, 99),
    ("extension_destdir", 15, 15),
    ("file_copy_method", 18, 99),
    ("file_extend_method", 16, 99),
    ("force_parallel_mode", 14, 15),
    ("gss_accept_delegation", 16, 99),
    ("icu_validation_level", 16, 99),
    ("idle_replication_slot_timeout", 18, 99),
    ("io_combine_limit", 17, 99),
    ("io_max_combine_limit", 18, 99),
    ("io_max_concurrency", 18, 99),
    ("io_method", 18, 99),
    ("io_workers", 18, 99),
    ("log_lock_failures", 18, 99),
    ("log_startup_progress_interval", 15, 99),
    ("max_active_replication_origins", 18, 99),
    ("max_notify_queue_pages", 17, 99),
    ("max_parallel_apply_workers_per_subscription", 16, 99),
    ("md5_password_warnings", 18, 99),
    ("multixact_member_buffers", 17, 99),
    ("multixact_offset_buffers", 17, 99),
    ("notify_buffers", 17, 99),
    ("oauth_validator_libraries", 18, 99),
    ("old_snapshot_threshold", 14, 16),
    ("promote_trigger_file", 14, 15),
    ("recovery_prefetch", 15, 99),
    ("recursive_worktable_factor", 15, 99),
    ("reserved_connections", 16, 99),
    ("scram_iterations", 16, 99),
    ("send_abort_for_crash", 16, 99),
    ("send_abort_for_kill", 16, 99),
    ("serializable_buffers", 17, 99),
    ("ssl_ecdh_curve", 14, 17),
    ("ssl_groups", 18, 99),
    ("ssl_tls13_ciphers", 18, 99),
    ("stats_fetch_consistency", 15, 99),
    ("stats_temp_directory", 14, 14),
    ("subtransaction_buffers", 17, 99),
    ("summarize_wal", 17, 99),
    ("sync_replication_slots", 17, 99),
    ("synchronized_standby_slots", 17, 99),
    ("trace_connection_negotiation", 17, 99),
    ("trace_recovery_messages", 14, 16),
    ("track_cost_delay_timing", 18, 99),
    ("transaction_buffers", 17, 99),
    ("transaction_timeout", 17, 99),
    ("vacuum_buffer_usage_limit", 16, 99),
    ("vacuum_defer_cleanup_age", 14, 15),
    ("vacuum_max_eager_freeze_failure_rate", 18, 99),
    ("vacuum_truncate", 18, 99),
    ("wal_decode_buffer_size", 15, 99),
    ("wal_summary_keep_time", 17, 99),
];

/// Returns true for a setting, in lower case, that a version's own program has and takes from a file.
pub(super) fn is_known(version: PgVersion, name: &str) -> bool {
    ALWAYS.split(' ').any(|known| known == name)
        || SOME
            .iter()
            .any(|(known, first, last)| *known == name && (*first..=*last).contains(&version.major()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_belong_to_versions() {
        assert!(is_known(PgVersion::V14, "work_mem") && is_known(PgVersion::V18, "timezone"));
        assert!(is_known(PgVersion::V17, "event_triggers") && !is_known(PgVersion::V16, "event_triggers"));
        assert!(
            is_known(PgVersion::V14, "stats_temp_directory")
                && !is_known(PgVersion::V15, "stats_temp_directory")
        );
        for name in [
            "",
            "include",
            "config_file",
            "transaction_read_only",
            "Work_Mem",
            "work_mem max_connections",
        ] {
            assert!(!is_known(PgVersion::V17, name), "{name:?}");
        }
    }
}
