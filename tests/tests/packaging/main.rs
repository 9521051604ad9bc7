//! What strangers install and run: the action, the workflows, the policies, the packages.

mod act;
mod action;
