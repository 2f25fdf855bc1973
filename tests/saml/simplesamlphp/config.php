<?php
// A SimpleSAMLphp for the tests: `start` runs it, and says what lies in its folder.
$folder = getenv('SAML_FOLDER');
$options = json_decode(file_get_contents("$folder/options.json"), true);

// Before 2.0 it encrypts by CBC and nothing else, which the proxy does not take. Everything else stays as it is.
if (($options['cipher'] ?? null) === 'gcm' && !class_exists('SAML2\EncryptedAssertion', false)) {
    $code = file_get_contents('/usr/share/simplesamlphp/vendor/simplesamlphp/saml2/src/SAML2/EncryptedAssertion.php');
    $code = str_replace('new XMLSecurityKey(XMLSecurityKey::AES128_CBC)', 'new XMLSecurityKey(XMLSecurityKey::AES256_GCM)', $code);
    eval(substr($code, strlen('<?php')));
}

$config = [
    'baseurlpath' => "http://127.0.0.1:{$_SERVER['SERVER_PORT']}/simplesaml/",
    'certdir' => dirname(__DIR__) . '/keys/',
    'loggingdir' => "$folder/",
    'datadir' => "$folder/",
    'tempdir' => "$folder/",
    'metadatadir' => __DIR__ . '/metadata/',
    'attributenamemapdir' => '/etc/simplesamlphp/attributemap/',
    'secretsalt' => 'tests',
    'auth.adminpassword' => 'tests',
    'timezone' => 'UTC',
    'logging.handler' => 'file',
    'logging.level' => 7,
    'showerrors' => true,
    'errorreporting' => false,
    'enable.saml20-idp' => true,
    'module.enable' => ['exampleauth' => true, 'core' => true, 'saml' => true],
    'store.type' => 'phpsession',
    'session.phpsession.savepath' => $folder,
    'session.cookie.secure' => false,
    'session.cookie.samesite' => null,
    'language.cookie.secure' => false,
    'language.cookie.samesite' => null,
    'language.default' => 'en',
    'authproc.idp' => [50 => [
        'class' => 'saml:AttributeNameID',
        'attribute' => 'email',
        'Format' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
    ]],
    'metadata.sources' => [
        ['type' => 'flatfile', 'directory' => __DIR__ . '/metadata'],
        ['type' => 'xml', 'file' => "$folder/sp.xml"],
    ],
];
