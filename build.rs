//! Compiles every `.proto` under `proto/` without protoc: Rust code per package, and one descriptor set for reflection.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = Vec::new();
    protos_under(Path::new("proto"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    for file in &files {
        compiler.open_file(file)?;
    }
    let all = compiler.file_descriptor_set();

    // What callers may see by reflection. The store's documents are nobody else's business, and neither is what nodes
    // tell each other.
    let mut public = all.clone();
    let private = ["pileway.store.", "pileway.peer."];
    public.file.retain(|file| !private.iter().any(|package| file.package().starts_with(package)));
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("pileway.bin"), public.encode_to_vec())?;

    tonic_prost_build::configure()
        .bytes(".")
        // A write that is repeated is encoded again, and has to give the same bytes: maps need an order.
        .btree_map(".pileway.store")
        .compile_fds(all)?;
    Ok(())
}

fn protos_under(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            protos_under(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
