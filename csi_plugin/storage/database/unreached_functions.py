"""Database functions that Cinder's objects and type modules name and that no driver reaches.

A test reads the sources of all drivers, of what they share and of the versioned objects, and fails when a function
of ``cinder.db.api`` appears there that is neither answered by ``StoreDatabase`` nor listed here with a reason.
"""

_ADMINISTRATION = "Cinder's API service manages types, specs and access with it; here they belong to a volume or group"
_BACKUP = "Cinder's backup service, which does not run here"
_SERVICES = "registration and clusters of Cinder's own services, which do not run here"
_CONSISTENCY_GROUPS = "consistency groups, which Cinder replaced with groups; nothing here creates any"
_CLEANUP = "the volume manager's table of unfinished work; intents in our records take its place"
_AUDIT = "usage reports and quotas of Cinder's API service"
_CREATION = "created by the library, which records the intent itself"
_PURE = "works on the class alone and asks no database"

NOT_REACHED_BY_DRIVERS: dict[str, str] = {
    "backup_create": _BACKUP,
    "backup_destroy": _BACKUP,
    "backup_get_all": _BACKUP,
    "backup_get_all_active_by_window": _BACKUP,
    "backup_get_all_by_host": _BACKUP,
    "backup_get_all_by_project": _BACKUP,
    "backup_get_all_by_volume": _BACKUP,
    "backup_metadata_update": _BACKUP,
    "backup_update": _BACKUP,
    "cgsnapshot_create": _CONSISTENCY_GROUPS,
    "cgsnapshot_destroy": _CONSISTENCY_GROUPS,
    "cgsnapshot_get_all_by_group": _CONSISTENCY_GROUPS,
    "cgsnapshot_get_all_by_project": _CONSISTENCY_GROUPS,
    "cgsnapshot_update": _CONSISTENCY_GROUPS,
    "cluster_create": _SERVICES,
    "cluster_destroy": _SERVICES,
    "cluster_get_all": _SERVICES,
    "cluster_update": _SERVICES,
    "consistencygroup_create": _CONSISTENCY_GROUPS,
    "consistencygroup_destroy": _CONSISTENCY_GROUPS,
    "consistencygroup_get_all_by_project": _CONSISTENCY_GROUPS,
    "consistencygroup_include_in_cluster": _SERVICES,
    "consistencygroup_update": _CONSISTENCY_GROUPS,
    "get_model_for_versioned_object": _PURE,
    "group_create": _CREATION,
    "group_include_in_cluster": _SERVICES,
    "group_snapshot_create": _CREATION,
    "group_type_access_add": _ADMINISTRATION,
    "group_type_access_remove": _ADMINISTRATION,
    "group_type_create": _ADMINISTRATION,
    "group_type_destroy": _ADMINISTRATION,
    "group_type_update": _ADMINISTRATION,
    "is_orm_value": _PURE,
    "qos_specs_associate": _ADMINISTRATION,
    "qos_specs_create": _ADMINISTRATION,
    "qos_specs_delete": _ADMINISTRATION,
    "qos_specs_disassociate": _ADMINISTRATION,
    "qos_specs_disassociate_all": _ADMINISTRATION,
    "qos_specs_item_delete": _ADMINISTRATION,
    "qos_specs_update": _ADMINISTRATION,
    "service_create": _SERVICES,
    "service_destroy": _SERVICES,
    "service_update": _SERVICES,
    "snapshot_data_get_for_project": _AUDIT,
    "snapshot_get_all_active_by_window": _AUDIT,
    "volume_attachment_get_all_by_project": _AUDIT,
    "volume_get_all_active_by_window": _AUDIT,
    "volume_include_in_cluster": _SERVICES,
    "volume_type_access_add": _ADMINISTRATION,
    "volume_type_access_remove": _ADMINISTRATION,
    "volume_type_create": _ADMINISTRATION,
    "volume_type_destroy": _ADMINISTRATION,
    "volume_type_update": _ADMINISTRATION,
    "worker_create": _CLEANUP,
    "worker_destroy": _CLEANUP,
    "worker_get": _CLEANUP,
    "worker_update": _CLEANUP,
}
