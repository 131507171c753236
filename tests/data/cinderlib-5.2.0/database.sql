BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('89aa6f9639f9');
CREATE TABLE attachment_specs (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	attachment_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	FOREIGN KEY(attachment_id) REFERENCES volume_attachment (id)
);
CREATE TABLE backup_metadata (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	backup_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	FOREIGN KEY(backup_id) REFERENCES backups (id)
);
CREATE TABLE backups (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	host VARCHAR(255), 
	availability_zone VARCHAR(255), 
	display_name VARCHAR(255), 
	display_description VARCHAR(255), 
	container VARCHAR(255), 
	status VARCHAR(255), 
	fail_reason VARCHAR(255), 
	service_metadata VARCHAR(255), 
	service VARCHAR(255), 
	size INTEGER, 
	object_count INTEGER, 
	parent_id VARCHAR(36), 
	temp_volume_id VARCHAR(36), 
	temp_snapshot_id VARCHAR(36), 
	num_dependent_backups INTEGER, 
	snapshot_id VARCHAR(36), 
	data_timestamp DATETIME, 
	restore_volume_id VARCHAR(36), 
	encryption_key_id VARCHAR(36), 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1))
);
CREATE TABLE cgsnapshots (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	consistencygroup_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	name VARCHAR(255), 
	description VARCHAR(255), 
	status VARCHAR(255), 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1)), 
	FOREIGN KEY(consistencygroup_id) REFERENCES consistencygroups (id)
);
CREATE TABLE cinderlib_persistence_key_value (
	"key" VARCHAR(255) NOT NULL, 
	value TEXT, 
	PRIMARY KEY ("key")
);
INSERT INTO "cinderlib_persistence_key_value" VALUES('setting','a value');
CREATE TABLE clusters (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	binary VARCHAR(255) NOT NULL, 
	disabled BOOLEAN, 
	disabled_reason VARCHAR(255), 
	race_preventer INTEGER NOT NULL, 
	replication_status VARCHAR(36), 
	active_backend_id VARCHAR(255), 
	frozen BOOLEAN DEFAULT (0) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name, binary, race_preventer)
);
CREATE TABLE consistencygroups (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	host VARCHAR(255), 
	availability_zone VARCHAR(255), 
	name VARCHAR(255), 
	description VARCHAR(255), 
	volume_type_id VARCHAR(255), 
	status VARCHAR(255), 
	cgsnapshot_id VARCHAR(36), 
	source_cgid VARCHAR(36), 
	cluster_name VARCHAR(255), 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1))
);
CREATE TABLE default_volume_types (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	volume_type_id VARCHAR(36), 
	project_id VARCHAR(255) NOT NULL, 
	deleted BOOLEAN, 
	PRIMARY KEY (project_id), 
	FOREIGN KEY(volume_type_id) REFERENCES volume_types (id), 
	CHECK (deleted IN (0, 1))
);
CREATE TABLE driver_initiator_data (
	created_at DATETIME, 
	updated_at DATETIME, 
	id INTEGER NOT NULL, 
	initiator VARCHAR(255) NOT NULL, 
	namespace VARCHAR(255) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	UNIQUE (initiator, namespace, "key")
);
CREATE TABLE encryption (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	cipher VARCHAR(255), 
	control_location VARCHAR(255), 
	key_size INTEGER, 
	provider VARCHAR(255), 
	volume_type_id VARCHAR(36) NOT NULL, 
	encryption_id VARCHAR(36), 
	PRIMARY KEY (encryption_id), 
	CHECK (deleted IN (0, 1))
);
CREATE TABLE group_snapshots (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	group_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	name VARCHAR(255), 
	description VARCHAR(255), 
	status VARCHAR(255), 
	group_type_id VARCHAR(36), 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1)), 
	FOREIGN KEY(group_id) REFERENCES groups (id)
);
CREATE TABLE group_type_projects (
	id INTEGER NOT NULL, 
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	group_type_id VARCHAR(36), 
	project_id VARCHAR(255), 
	deleted BOOLEAN, 
	PRIMARY KEY (id), 
	UNIQUE (group_type_id, project_id, deleted), 
	FOREIGN KEY(group_type_id) REFERENCES group_types (id), 
	CHECK (deleted IN (0, 1))
);
CREATE TABLE group_type_specs (
	id INTEGER NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	group_type_id VARCHAR(36) NOT NULL, 
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	PRIMARY KEY (id), 
	FOREIGN KEY(group_type_id) REFERENCES group_types (id)
);
INSERT INTO "group_type_specs" VALUES(1,'consistent_group_snapshot_enabled','<is> True','c808d509-c608-4952-aab3-6a6ad8f1ccaf','2026-11-23 23:59:31.960314','2026-11-23 23:59:31.960314',NULL,0);
CREATE TABLE group_types (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	description VARCHAR(255), 
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	is_public BOOLEAN, 
	PRIMARY KEY (id)
);
INSERT INTO "group_types" VALUES('c808d509-c608-4952-aab3-6a6ad8f1ccaf','default_cgsnapshot_type','Default group type for migrating cgsnapshot','2026-11-23 23:59:31.960314','2026-11-23 23:59:31.960314',NULL,0,1);
CREATE TABLE group_volume_type_mapping (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	volume_type_id VARCHAR(36) NOT NULL, 
	group_id VARCHAR(36) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(volume_type_id) REFERENCES volume_types (id), 
	FOREIGN KEY(group_id) REFERENCES groups (id)
);
CREATE TABLE groups (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	cluster_name VARCHAR(255), 
	host VARCHAR(255), 
	availability_zone VARCHAR(255), 
	name VARCHAR(255), 
	description VARCHAR(255), 
	group_type_id VARCHAR(36), 
	status VARCHAR(255), 
	group_snapshot_id VARCHAR(36), 
	source_group_id VARCHAR(36), 
	replication_status VARCHAR(255), 
	PRIMARY KEY (id)
);
CREATE TABLE image_volume_cache_entries (
	image_updated_at DATETIME, 
	id INTEGER NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	image_id VARCHAR(36) NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	size INTEGER NOT NULL, 
	last_used DATETIME NOT NULL, 
	cluster_name VARCHAR(255), 
	PRIMARY KEY (id)
);
CREATE TABLE messages (
	id VARCHAR(36) NOT NULL, 
	project_id VARCHAR(255) NOT NULL, 
	request_id VARCHAR(255), 
	resource_type VARCHAR(36), 
	resource_uuid VARCHAR(255), 
	event_id VARCHAR(255) NOT NULL, 
	message_level VARCHAR(255) NOT NULL, 
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	expires_at DATETIME, 
	detail_id VARCHAR(10), 
	action_id VARCHAR(10), 
	PRIMARY KEY (id)
);
CREATE TABLE quality_of_service_specs (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	specs_id VARCHAR(36), 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1)), 
	FOREIGN KEY(specs_id) REFERENCES quality_of_service_specs (id)
);
INSERT INTO "quality_of_service_specs" VALUES('2026-11-23 23:59:32.086283','2026-11-23 23:59:32.088366',NULL,0,'cc764c85-3023-4138-a035-00d10a3453e1',NULL,'QoS_Specs_Name','cc764c85-3023-4138-a035-00d10a3453e1');
INSERT INTO "quality_of_service_specs" VALUES('2026-11-23 23:59:32.086975',NULL,NULL,0,'7819a33b-c9e4-46a8-a155-b0ed2dc34eb1','cd155938-47f4-4d1f-8126-50a35a7488e9','consumer','back-end');
INSERT INTO "quality_of_service_specs" VALUES('2026-11-23 23:59:32.087246',NULL,NULL,0,'417a81a6-7923-478f-af59-0961658da158','cd155938-47f4-4d1f-8126-50a35a7488e9','maxIOPS','500');
INSERT INTO "quality_of_service_specs" VALUES('2026-11-23 23:59:32.116875','2026-11-23 23:59:32.117903',NULL,0,'739cfe75-4d4c-4144-b207-66e24b262a34',NULL,'QoS_Specs_Name','739cfe75-4d4c-4144-b207-66e24b262a34');
INSERT INTO "quality_of_service_specs" VALUES('2026-11-23 23:59:32.117212',NULL,NULL,0,'7c4dfd8d-5930-4738-988c-1d6c70e26f2c','ea643dbb-6796-4774-a480-b216b811f19d','consumer','back-end');
INSERT INTO "quality_of_service_specs" VALUES('2026-11-23 23:59:32.117414',NULL,NULL,0,'171ffd1e-6873-4d6f-bcc3-76156c02722d','ea643dbb-6796-4774-a480-b216b811f19d','maxIOPS','500');
CREATE TABLE quota_classes (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	class_name VARCHAR(255), 
	resource VARCHAR(255), 
	hard_limit INTEGER, 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1))
);
INSERT INTO "quota_classes" VALUES('2026-11-23 23:59:31.917942',NULL,NULL,0,1,'default','volumes',10);
INSERT INTO "quota_classes" VALUES('2026-11-23 23:59:31.917942',NULL,NULL,0,2,'default','snapshots',10);
INSERT INTO "quota_classes" VALUES('2026-11-23 23:59:31.917942',NULL,NULL,0,3,'default','gigabytes',1000);
INSERT INTO "quota_classes" VALUES('2026-11-23 23:59:31.917942',NULL,NULL,0,4,'default','consistencygroups',10);
INSERT INTO "quota_classes" VALUES('2026-11-23 23:59:31.917942',NULL,NULL,0,5,'default','per_volume_gigabytes',-1);
INSERT INTO "quota_classes" VALUES('2026-11-23 23:59:31.917942',NULL,NULL,0,6,'default','groups',10);
CREATE TABLE "quota_usages" (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	project_id VARCHAR(255), 
	resource VARCHAR(300), 
	in_use INTEGER NOT NULL, 
	reserved INTEGER NOT NULL, 
	until_refresh INTEGER, 
	race_preventer BOOLEAN, 
	PRIMARY KEY (id), 
	UNIQUE (project_id, resource, race_preventer)
);
CREATE TABLE quotas (
	id INTEGER NOT NULL, 
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	project_id VARCHAR(255), 
	resource VARCHAR(255) NOT NULL, 
	hard_limit INTEGER, 
	allocated INTEGER, 
	PRIMARY KEY (id)
);
CREATE TABLE reservations (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	uuid VARCHAR(36) NOT NULL, 
	usage_id INTEGER, 
	project_id VARCHAR(255), 
	resource VARCHAR(255), 
	delta INTEGER NOT NULL, 
	expire DATETIME, 
	allocated_id INTEGER, 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1)), 
	FOREIGN KEY(usage_id) REFERENCES quota_usages (id), 
	FOREIGN KEY(allocated_id) REFERENCES quotas (id)
);
CREATE TABLE services (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	host VARCHAR(255), 
	binary VARCHAR(255), 
	topic VARCHAR(255), 
	report_count INTEGER NOT NULL, 
	disabled BOOLEAN, 
	availability_zone VARCHAR(255), 
	disabled_reason VARCHAR(255), 
	modified_at DATETIME, 
	rpc_current_version VARCHAR(36), 
	object_current_version VARCHAR(36), 
	replication_status VARCHAR(36), 
	frozen BOOLEAN, 
	active_backend_id VARCHAR(255), 
	cluster_name VARCHAR(255), 
	uuid VARCHAR(36), 
	PRIMARY KEY (id)
);
CREATE TABLE snapshot_metadata (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	snapshot_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	FOREIGN KEY(snapshot_id) REFERENCES snapshots (id)
);
CREATE TABLE snapshots (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	status VARCHAR(255), 
	progress VARCHAR(255), 
	volume_size INTEGER, 
	scheduled_at DATETIME, 
	display_name VARCHAR(255), 
	display_description VARCHAR(255), 
	provider_location VARCHAR(255), 
	encryption_key_id VARCHAR(36), 
	volume_type_id VARCHAR(36) NOT NULL, 
	cgsnapshot_id VARCHAR(36), 
	provider_id VARCHAR(255), 
	provider_auth VARCHAR(255), 
	group_snapshot_id VARCHAR(36), 
	use_quota BOOLEAN, 
	PRIMARY KEY (id), 
	CONSTRAINT snapshots_volume_id_fkey FOREIGN KEY(volume_id) REFERENCES volumes (id), 
	FOREIGN KEY(cgsnapshot_id) REFERENCES cgsnapshots (id), 
	FOREIGN KEY(group_snapshot_id) REFERENCES group_snapshots (id)
);
INSERT INTO "snapshots" VALUES('2026-11-23 23:59:32.097498',NULL,NULL,0,'28d13e5c-6ddb-4a93-b5e8-a1e7bf092492','c58e0ddd-a210-4606-bf0c-b2e3b6d9e65d','33333333-aaaa-4bbb-8ccc-444444444444','11111111-aaaa-4bbb-8ccc-222222222222','available','legacy',2,NULL,'snap1','a snapshot','snap-28d13e5c',NULL,'38c811f3-aad6-48ff-af93-cfe7a77717eb',NULL,NULL,NULL,NULL,1);
CREATE TABLE transfers (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	display_name VARCHAR(255), 
	salt VARCHAR(255), 
	crypt_hash VARCHAR(255), 
	expires_at DATETIME, 
	no_snapshots BOOLEAN, 
	source_project_id VARCHAR(255), 
	destination_project_id VARCHAR(255), 
	accepted BOOLEAN, 
	PRIMARY KEY (id), 
	FOREIGN KEY(volume_id) REFERENCES volumes (id)
);
CREATE TABLE volume_admin_metadata (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	FOREIGN KEY(volume_id) REFERENCES volumes (id)
);
CREATE TABLE volume_attachment (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	attached_host VARCHAR(255), 
	instance_uuid VARCHAR(36), 
	mountpoint VARCHAR(255), 
	attach_time DATETIME, 
	detach_time DATETIME, 
	attach_mode VARCHAR(36), 
	attach_status VARCHAR(255), 
	connection_info TEXT, 
	connector TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(volume_id) REFERENCES volumes (id)
);
INSERT INTO "volume_attachment" VALUES('2026-11-23 23:59:32.123317',NULL,NULL,0,'a4dd0095-3b92-4f72-a7bf-42d39fbd8408','c58e0ddd-a210-4606-bf0c-b2e3b6d9e65d',NULL,NULL,NULL,NULL,NULL,'rw',NULL,'{"conn": {"driver_volume_type": "iscsi", "data": {"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:volume-c58e0ddd-a210-4606-bf0c-b2e3b6d9e65d", "target_lun": 1, "volume_id": "c58e0ddd-a210-4606-bf0c-b2e3b6d9e65d", "auth_method": "CHAP", "auth_username": "olduser", "auth_password": "oldsecret", "discard": false, "access_mode": "rw"}}, "connector": {"initiator": "iqn.1993-08.org.debian:01:abc", "ip": "192.0.2.7", "host": "node1", "multipath": false, "os_type": "linux2", "platform": "x86_64", "do_local_attach": false, "system uuid": "x"}}','{"initiator": "iqn.1993-08.org.debian:01:abc", "ip": "192.0.2.7", "host": "node1", "multipath": false, "os_type": "linux2", "platform": "x86_64", "do_local_attach": false, "system uuid": "x"}');
CREATE TABLE volume_glance_metadata (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	volume_id VARCHAR(36), 
	snapshot_id VARCHAR(36), 
	"key" VARCHAR(255), 
	value TEXT, 
	PRIMARY KEY (id), 
	CHECK (deleted IN (0, 1)), 
	FOREIGN KEY(volume_id) REFERENCES volumes (id), 
	FOREIGN KEY(snapshot_id) REFERENCES snapshots (id)
);
CREATE TABLE volume_metadata (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	volume_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	FOREIGN KEY(volume_id) REFERENCES volumes (id)
);
INSERT INTO "volume_metadata" VALUES('2026-11-23 23:59:32.093145',NULL,NULL,0,1,'cc764c85-3023-4138-a035-00d10a3453e1','owner','app');
INSERT INTO "volume_metadata" VALUES('2026-11-23 23:59:32.120358',NULL,NULL,0,2,'739cfe75-4d4c-4144-b207-66e24b262a34','owner','app');
CREATE TABLE volume_type_extra_specs (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	volume_type_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255), 
	value VARCHAR(255), 
	PRIMARY KEY (id), 
	CONSTRAINT volume_type_extra_specs_ibfk_1 FOREIGN KEY(volume_type_id) REFERENCES volume_types (id)
);
INSERT INTO "volume_type_extra_specs" VALUES('2026-11-23 23:59:32.093965',NULL,NULL,0,1,'cc764c85-3023-4138-a035-00d10a3453e1','compression','on');
INSERT INTO "volume_type_extra_specs" VALUES('2026-11-23 23:59:32.120620',NULL,NULL,0,2,'739cfe75-4d4c-4144-b207-66e24b262a34','compression','on');
CREATE TABLE volume_type_projects (
	id INTEGER NOT NULL, 
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	volume_type_id VARCHAR(36), 
	project_id VARCHAR(255), 
	deleted INTEGER, 
	PRIMARY KEY (id), 
	UNIQUE (volume_type_id, project_id, deleted), 
	FOREIGN KEY(volume_type_id) REFERENCES volume_types (id)
);
CREATE TABLE volume_types (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(255), 
	qos_specs_id VARCHAR(36), 
	is_public BOOLEAN, 
	description VARCHAR(255), 
	PRIMARY KEY (id), 
	FOREIGN KEY(qos_specs_id) REFERENCES quality_of_service_specs (id)
);
INSERT INTO "volume_types" VALUES('2026-11-23 23:59:31.960314','2026-11-23 23:59:31.960314',NULL,0,'38c811f3-aad6-48ff-af93-cfe7a77717eb','__DEFAULT__',NULL,1,'Default Volume Type');
INSERT INTO "volume_types" VALUES('2026-11-23 23:59:32.093526',NULL,NULL,0,'cc764c85-3023-4138-a035-00d10a3453e1','cc764c85-3023-4138-a035-00d10a3453e1',NULL,1,NULL);
INSERT INTO "volume_types" VALUES('2026-11-23 23:59:32.120480',NULL,NULL,0,'739cfe75-4d4c-4144-b207-66e24b262a34','739cfe75-4d4c-4144-b207-66e24b262a34',NULL,1,NULL);
CREATE TABLE "volumes" (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id VARCHAR(36) NOT NULL, 
	ec2_id VARCHAR(255), 
	user_id VARCHAR(255), 
	project_id VARCHAR(255), 
	host VARCHAR(255), 
	size INTEGER, 
	availability_zone VARCHAR(255), 
	status VARCHAR(255), 
	attach_status VARCHAR(255), 
	scheduled_at DATETIME, 
	launched_at DATETIME, 
	terminated_at DATETIME, 
	display_name VARCHAR(255), 
	display_description VARCHAR(255), 
	provider_location VARCHAR(256), 
	provider_auth VARCHAR(256), 
	snapshot_id VARCHAR(36), 
	volume_type_id VARCHAR(36) NOT NULL, 
	source_volid VARCHAR(36), 
	bootable BOOLEAN, 
	provider_geometry VARCHAR(255), 
	_name_id VARCHAR(36), 
	encryption_key_id VARCHAR(36), 
	migration_status VARCHAR(255), 
	replication_status VARCHAR(255), 
	replication_extended_status VARCHAR(255), 
	replication_driver_data VARCHAR(255), 
	consistencygroup_id VARCHAR(36), 
	provider_id VARCHAR(255), 
	multiattach BOOLEAN, 
	previous_status VARCHAR(255), 
	cluster_name VARCHAR(255), 
	group_id VARCHAR(36), 
	service_uuid VARCHAR(36), 
	shared_targets BOOLEAN, 
	use_quota BOOLEAN, 
	PRIMARY KEY (id), 
	FOREIGN KEY(group_id) REFERENCES groups (id), 
	FOREIGN KEY(service_uuid) REFERENCES services (uuid), 
	FOREIGN KEY(consistencygroup_id) REFERENCES consistencygroups (id)
);
INSERT INTO "volumes" VALUES('2026-11-23 23:59:32.059251','2026-11-23 23:59:32.213538',NULL,0,'c58e0ddd-a210-4606-bf0c-b2e3b6d9e65d',NULL,'33333333-aaaa-4bbb-8ccc-444444444444','11111111-aaaa-4bbb-8ccc-222222222222','vm@legacy#pool1',2,NULL,'in-use','detached',NULL,NULL,NULL,'first','the first one','192.0.2.1:3260,1 iqn.2010-10.org.openstack:volume-c58e0ddd-a210-4606-bf0c-b2e3b6d9e65d 1','CHAP olduser oldsecret',NULL,'38c811f3-aad6-48ff-af93-cfe7a77717eb',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'array-c58e0ddd',0,NULL,NULL,NULL,NULL,1,1);
INSERT INTO "volumes" VALUES('2026-11-23 23:59:32.081507',NULL,NULL,0,'cc764c85-3023-4138-a035-00d10a3453e1',NULL,'33333333-aaaa-4bbb-8ccc-444444444444','11111111-aaaa-4bbb-8ccc-222222222222','vm@legacy#pool1',3,NULL,'available','detached',NULL,NULL,NULL,'typed','','192.0.2.1:3260,1 iqn.2010-10.org.openstack:volume-cc764c85-3023-4138-a035-00d10a3453e1 1','CHAP olduser oldsecret',NULL,'cc764c85-3023-4138-a035-00d10a3453e1',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'array-cc764c85',0,NULL,NULL,NULL,NULL,1,1);
INSERT INTO "volumes" VALUES('2026-11-23 23:59:32.059251',NULL,NULL,0,'d36187e2-309a-4f00-b524-0b6b401ce7ef',NULL,'33333333-aaaa-4bbb-8ccc-444444444444','11111111-aaaa-4bbb-8ccc-222222222222','vm@legacy#pool1',2,NULL,'available','detached',NULL,NULL,NULL,'restored','the first one','192.0.2.1:3260,1 iqn.2010-10.org.openstack:volume-d36187e2-309a-4f00-b524-0b6b401ce7ef 1','CHAP olduser oldsecret','28d13e5c-6ddb-4a93-b5e8-a1e7bf092492','38c811f3-aad6-48ff-af93-cfe7a77717eb',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'array-d36187e2',0,NULL,NULL,NULL,NULL,1,1);
INSERT INTO "volumes" VALUES('2026-11-23 23:59:32.081507',NULL,NULL,0,'739cfe75-4d4c-4144-b207-66e24b262a34',NULL,'33333333-aaaa-4bbb-8ccc-444444444444','11111111-aaaa-4bbb-8ccc-222222222222','vm@legacy#pool1',3,NULL,'available','detached',NULL,NULL,NULL,'cloned','','192.0.2.1:3260,1 iqn.2010-10.org.openstack:volume-739cfe75-4d4c-4144-b207-66e24b262a34 1','CHAP olduser oldsecret',NULL,'739cfe75-4d4c-4144-b207-66e24b262a34','cc764c85-3023-4138-a035-00d10a3453e1',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'array-739cfe75',0,NULL,NULL,NULL,NULL,1,1);
CREATE TABLE workers (
	created_at DATETIME, 
	updated_at DATETIME, 
	deleted_at DATETIME, 
	deleted BOOLEAN, 
	id INTEGER NOT NULL, 
	resource_type VARCHAR(40) NOT NULL, 
	resource_id VARCHAR(36) NOT NULL, 
	status VARCHAR(255) NOT NULL, 
	service_id INTEGER, 
	race_preventer INTEGER DEFAULT 0 NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (resource_type, resource_id), 
	FOREIGN KEY(service_id) REFERENCES services (id)
);
INSERT INTO "workers" VALUES('2026-11-23 23:59:31.000123','2026-11-23 23:59:31.000123',NULL,0,1,'SENTINEL','SUB-SECOND','OK',NULL,0);
CREATE UNIQUE INDEX services_uuid_idx ON services (uuid);
CREATE INDEX ix_cgsnapshots_consistencygroup_id ON cgsnapshots (consistencygroup_id);
CREATE INDEX ix_group_snapshots_group_id ON group_snapshots (group_id);
CREATE INDEX ix_volume_attachment_volume_id ON volume_attachment (volume_id);
CREATE INDEX ix_attachment_specs_attachment_id ON attachment_specs (attachment_id);
CREATE INDEX ix_snapshots_group_snapshot_id ON snapshots (group_snapshot_id);
CREATE INDEX ix_snapshots_cgsnapshot_id ON snapshots (cgsnapshot_id);
CREATE INDEX ix_snapshots_volume_id ON snapshots (volume_id);
CREATE INDEX ix_snapshot_metadata_snapshot_id ON snapshot_metadata (snapshot_id);
CREATE INDEX ix_quality_of_service_specs_specs_id ON quality_of_service_specs (specs_id);
CREATE INDEX ix_volume_types_qos_specs_id ON volume_types (qos_specs_id);
CREATE INDEX ix_volume_metadata_volume_id ON volume_metadata (volume_id);
CREATE INDEX ix_volume_type_extra_specs_volume_type_id ON volume_type_extra_specs (volume_type_id);
CREATE INDEX ix_quota_classes_class_name ON quota_classes (class_name);
CREATE INDEX ix_reservations_allocated_id ON reservations (allocated_id);
CREATE INDEX ix_reservations_usage_id ON reservations (usage_id);
CREATE INDEX reservations_deleted_expire_idx ON reservations (deleted, expire);
CREATE INDEX ix_reservations_project_id ON reservations (project_id);
CREATE INDEX reservations_deleted_uuid_idx ON reservations (deleted, uuid);
CREATE INDEX ix_volume_glance_metadata_volume_id ON volume_glance_metadata (volume_id);
CREATE INDEX ix_volume_glance_metadata_snapshot_id ON volume_glance_metadata (snapshot_id);
CREATE INDEX ix_backup_metadata_backup_id ON backup_metadata (backup_id);
CREATE INDEX ix_transfers_volume_id ON transfers (volume_id);
CREATE INDEX ix_volume_admin_metadata_volume_id ON volume_admin_metadata (volume_id);
CREATE INDEX ix_driver_initiator_data_initiator ON driver_initiator_data (initiator);
CREATE INDEX ix_image_volume_cache_entries_host ON image_volume_cache_entries (host);
CREATE INDEX ix_image_volume_cache_entries_image_id ON image_volume_cache_entries (image_id);
CREATE INDEX ix_messages_expires_at ON messages (expires_at);
CREATE INDEX ix_workers_service_id ON workers (service_id);
CREATE INDEX ix_group_type_specs_group_type_id ON group_type_specs (group_type_id);
CREATE INDEX ix_group_volume_type_mapping_group_id ON group_volume_type_mapping (group_id);
CREATE INDEX ix_group_volume_type_mapping_volume_type_id ON group_volume_type_mapping (volume_type_id);
CREATE INDEX ix_default_volume_types_volume_type_id ON default_volume_types (volume_type_id);
CREATE INDEX ix_quota_usages_project_id ON quota_usages (project_id);
CREATE INDEX quota_usage_project_resource_idx ON quota_usages (project_id, resource);
CREATE INDEX ix_volumes_group_id ON volumes (group_id);
CREATE INDEX volumes_service_uuid_idx ON volumes (service_uuid, deleted);
CREATE INDEX ix_volumes_consistencygroup_id ON volumes (consistencygroup_id);
CREATE INDEX groups_deleted_project_id_idx ON groups (deleted, project_id);
CREATE INDEX group_snapshots_deleted_project_id_idx ON group_snapshots (deleted, project_id);
CREATE INDEX volumes_deleted_project_id_idx ON volumes (deleted, project_id);
CREATE INDEX volumes_deleted_host_idx ON volumes (deleted, host);
CREATE INDEX backups_deleted_project_id_idx ON backups (deleted, project_id);
CREATE INDEX snapshots_deleted_project_id_idx ON snapshots (deleted, project_id);
COMMIT;
