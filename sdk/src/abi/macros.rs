//! The macros that authors call.

/// Exports a [`Storage`](crate::Storage) as this library's plugin. Once a crate, with `crate-type = ["cdylib", "rlib"]`.
///
/// The plugin's name is the package's without `deskreel-storage-` (or `deskreel_storage_`).
#[macro_export]
macro_rules! export_storage {
    ($storage:ty) => {
        $crate::__export! { Storage, $storage, storage, "deskreel_storage_v1" }
    };
}

/// Exports an [`Exporter`](crate::Exporter) as this library's plugin. Once a crate, with `crate-type = ["cdylib", "rlib"]`.
///
/// The plugin's name is the package's without `deskreel-exporter-` (or `deskreel_exporter_`).
#[macro_export]
macro_rules! export_exporter {
    ($exporter:ty) => {
        $crate::__export! { Exporter, $exporter, exporter, "deskreel_exporter_v1" }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($kind:ident, $plugin:ty, $module:ident, $symbol:literal) => {
        #[cfg(panic = "abort")]
        compile_error!("a Deskreel plugin needs panic = \"unwind\": with abort, a panic in it would end the gateway");

        const _: () = {
            const PACKAGE: $crate::abi::meta::Package = $crate::abi::meta::Package {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
            };
            const LENGTH: usize = $crate::abi::meta::section_len(PACKAGE, $crate::abi::meta::Kind::$kind);

            #[used]
            #[unsafe(link_section = ".deskreel.meta")]
            static META: [u8; LENGTH] = $crate::abi::meta::section(PACKAGE, $crate::abi::meta::Kind::$kind);

            struct Exported;

            impl $crate::abi::$module::Exported for Exported {
                type Plugin = $plugin;
                const PACKAGE: $crate::abi::meta::Package = PACKAGE;
            }

            #[used]
            #[unsafe(export_name = $symbol)]
            static HEADER: $crate::abi::LibHeader = $crate::abi::$module::header::<Exported>();
        };
    };
}
