//! The files that a script names.

use std::path::{Path, PathBuf};

use mlua::Lua;

use crate::error::LabError;

/// The folder of the script, to which its paths are relative.
pub struct Folder(pub PathBuf);

/// The path of a file next to the script that names it.
pub fn beside(lua: &Lua, name: &str) -> Result<PathBuf, LabError> {
    let folder = lua.app_data_ref::<Folder>().map(|folder| folder.0.clone());
    let path = folder.unwrap_or_default().join(Path::new(name));
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::misuse(format!(
        "cannot find the hook script {}: paths begin at the folder of the lab's script",
        path.display()
    )))
}
