#!/bin/sh
# Installs what some extras of the project depend on to /opt/venv, and leaves out what nothing reads at run time.
#   install.sh EXTRAS TENSORFLOW
set -eu
extras=$1 tensorflow=$2
packages=/opt/venv/lib/python3.11/site-packages
version=$(sed -n 's/^tensorflow==//p' constraints.txt)

python k8s/images/requirements.py "$extras" <pyproject.toml >/tmp/requirements.txt
pip --python /opt/venv install --no-cache-dir --no-compile -c constraints.txt -r /tmp/requirements.txt
if [ -d $packages/tensorflow ]; then
  case $tensorflow in
  tensorflow-cpu)  # The same modules, built without the kernels for GPUs: half the size.
    cp -r "$packages/tensorflow-$version.dist-info" /tmp/kept
    pip --python /opt/venv uninstall -y tensorflow
    pip --python /opt/venv install --no-cache-dir --no-compile --no-deps "tensorflow-cpu==$version"
    cp -r /tmp/kept "$packages/tensorflow-$version.dist-info"  # Others ask for `tensorflow` and its version.
    ;;
  *) pip --python /opt/venv install --no-cache-dir --no-compile "$tensorflow==$version" ;;
  esac
fi
# Headers for compilers, a compiler's library, and the packages' own tests.
rm -rf $packages/tensorflow/include $packages/clang $packages/pyarrow/include
find $packages -depth -type d -name tests -exec rm -rf {} +
# Bytecode that is valid whatever the files' times: a root that is read-only could not write it later.
python -m compileall -q -j 0 --invalidation-mode unchecked-hash $packages || echo "Some files are no Python."
