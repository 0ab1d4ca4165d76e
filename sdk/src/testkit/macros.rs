//! The macro that authors call for the tests of a storage.

/// Writes the tests of [`testkit::storage`](crate::testkit::storage) for a storage, one `#[test]` each.
///
/// `settings` gets an empty folder and makes settings (JSON) for a storage that holds nothing yet; `sample` is what `sample.yaml`
/// shows, as JSON.
///
/// ```ignore
/// deskreel_sdk::storage_tests! {
///     storage: Blocking<Local>,
///     settings: |folder| json!({"path": folder}),
///     sample: json!({"path": "./recordings"}),
/// }
/// ```
#[macro_export]
macro_rules! storage_tests {
    (storage: $storage:ty, settings: $settings:expr, sample: $sample:expr $(,)?) => {
        $crate::__storage_checks! { [$crate::__storage_tests] $storage, $settings; }

        #[test]
        fn settings_accept_the_sample_and_refuse_junk() {
            $crate::testkit::storage::settings::<$storage>(&$sample);
        }

        #[test]
        fn open_and_close_leave_nothing() {
            $crate::testkit::open_close::check::<$storage>(
                concat!(module_path!(), "::open_and_close_leave_nothing"),
                $settings,
            );
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __storage_tests {
    ($storage:ty, $settings:expr; $($check:ident: $about:literal,)+) => {
        $(
            #[test]
            fn $check() {
                $crate::testkit::run::<$storage, _>($settings, $crate::testkit::storage::$check);
            }
        )+
    };
}

/// The one list of the checks of a storage: passes it on to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __storage_checks {
    ([$($then:tt)+] $($arguments:tt)*) => {
        $($then)+! { $($arguments)*
            sizes: "objects of any size up to the limit come back as they were, and none over it is taken",
            same_key_same_bytes: "the same object may be put again",
            same_key_other_bytes: "an object is never replaced by other bytes",
            racing_put: "of 16 puts of one key at once one wins, whole",
            ranges: "a part of an object is read exactly, also at its ends",
            missing_objects: "what is not there is not found, and deleting it is no error",
            paging: "2500 objects are listed once each and in order",
            odd_keys: "every key that the SDK allows works",
            stat_list_and_delete_agree: "stat, list and delete tell the same",
            parallel: "64 operations at once do not disturb each other",
            given_up_puts: "a put that is given up leaves an object whole or not at all",
            put_file: "a file is stored as its bytes would be",
            check_leaves_nothing: "the plugin's own check passes and leaves nothing behind",
        }
    };
}
